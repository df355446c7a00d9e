// Package bench measures procmem against its peers on the same processes and the same disk, in
// turn and in one run: "make bench". There is nothing to import; docs/performance.md is what it
// wrote.
//
// Each case makes its own target, so that one can be measured alone:
//
//	make build
//	go test ./bench -v -count=1 -timeout 60m -args -run-bench -procmem "$PWD/procmem" -only Redis
//
// The names of the cases are the headings of docs/performance.md; -only takes a part of them.
// With -write FILE the file has the tables after each case. -scale 16 -rounds 1 tries out the
// bench itself on small targets. Servers that are not installed, and targets for which there is
// no room, are skipped with a reason.
package bench
