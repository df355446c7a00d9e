// Package bench measures procmem against its peers on the same processes and
// the same disk, in turn and in one run: "make bench". There is nothing to
// import; see docs/performance.md for what it printed.
package bench
