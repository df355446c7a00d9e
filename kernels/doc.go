// Package kernels runs procmem on other kernels, in virtual machines: "make kernels". There is
// nothing to import; docs/kernels.md is what it wrote.
//
// Each machine has a kernel of Debian, a static busybox, and static programs: procmem, the
// helper programs of package testproc, and test binaries. The tests of kernels/guest are for
// such machines alone. Qemu emulates the processor, so a time in a machine means nothing but
// beside another one of the same boot. Start at machines_test.go, which lists the machines and
// what runs in each.
//
// A command of your own runs in a machine so:
//
//	go test ./kernels -v -timeout 1h -run 'TestKernel/^6.1-amd64$' -args -run-kernels \
//	    -do 'harm.test -test.v=test2json -test.run TestWitness -dumps 20'
//	go test ./kernels -v -timeout 1h -run 'TestKernel/^6.1-amd64$' -args -run-kernels \
//	    -do 'procmem doctor 1; internal/dirty.test'
//
// The shell of busybox runs it. A word such as internal/dirty.test is the tests of that
// package, which are compiled for the machine. With -test.v=test2json each of them becomes a
// subtest. -console prints what the machine writes, as it comes.
//
// What was downloaded stays below the user's cache folder (-cache). Remove it to have newer
// kernels. Nothing is installed, and the sources of apt stay as they are.
package kernels
