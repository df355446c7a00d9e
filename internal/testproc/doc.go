// Package testproc runs helper programs with known memory, threads and registers, for the tests
// of the other packages. Start builds one (gcc, musl-gcc or go build, once for each version of
// its source) and returns when it is ready:
//
//	p := testproc.Start(t, testproc.Zoo.With(testproc.M32), "--untouched", "1G")
//	m := p.Map(t, "anon")
//	want := p.Want(t, m, 0) // what page 0 of it holds
//	p.Cmd(t, "drop anon 1 2")
//
// A helper ends with its test. The cleanup of the test kills it, it exits when its stdin
// closes, and it asks to be killed when its parent dies.
//
// # Protocol
//
// A helper writes one fact a line, a key and a value, until a line "ready". It then answers
// each line of its stdin with one line. The keys map, needle, thread, path, reg, area and no
// have a name behind them, which is part of the key:
//
//	pid PID                             as the helper sees it
//	stamp VALUE                         see Stamp
//	map NAME ADDR LEN KIND STAMPED      see Map; KIND is anon or file:SIZE, STAMPED pages are "0,4-7" or "-"
//	path NAME "PATH"                    the file of a mapping, quoted
//	needle NAME ADDR HEX                bytes that are at this place alone
//	thread NAME TID PLACE
//	no NAME REASON                      this kernel has no such mapping
//
// Every C program takes --ballast SIZE, for a stamped mapping of that name, and --gap. --gap
// starts two threads that measure how long they could not run. The commands of all C programs
// are
//
//	ping                                pong
//	gap                                 gap SLEEP COMPUTE WRITE: the longest time in ns between two iterations of a
//	                                    thread that sleeps for 1 ms and of one that computes, and the longest that
//	                                    one write of the writer of many took
//	gap reset                           ok; takes effect at each thread's next iteration
//	exit [STATUS]                       no answer
//	abort                               no answer; SIGABRT
//
// An answer that begins with "error" tells why a command failed.
//
// # zoo
//
// One of every kind of memory and of blocked thread. The main thread reads stdin; the others
// are
//
//	zoo-1  futex       zoo-2  nanosleep   zoo-3  poll          zoo-4  read, from a pipe
//	zoo-5  epoll       zoo-6  spin        zoo-7  sigsuspend    zoo-8  recursion: zoo_level_0 to zoo_level_9, zoo_bottom
//
// and are there when it is ready. Zoo-6 loops in the range of the fact spinloop, with the
// registers of the facts "reg NAME". As numbers these are rbx and r12 to r15 (i386: ebx, esi,
// edi). As bytes they are ymm0 to ymm15 or xmm0 to xmm15, by the fact vector 32 or 16 (i386: 8
// of them; arm64: x19 to x23, and q0 to q15). On amd64, zoo-1 has the same values in them.
//
// Needles are data, bss, heap and rodata (a constant, which is in the file of the program too).
// Others are stack and tls of the main thread, stack-1 to stack-8, and tls-1 to tls-8.
//
// Mappings, each with a free page on both sides:
//
//	anon         16 pages, 7 of them untouched
//	dontdump, dontfork, wipeonfork    4 pages, so advised
//	untouched    private, by --untouched (16M)
//	zeropage     8 pages: 4 read, never written, 4 untouched
//	none         PROT_NONE, untouched, by --none (64M)
//	nonetouched, readonly, writeonly, execonly    4 pages, so protected after they were written
//	shared       MAP_SHARED and anonymous, 64 pages, 3 of them written
//	file         private, of a file of 8 pages; page 2 is written, the others are clean
//	fileshared   shared, of a file of 8 pages; page 1 is written
//	eof          3 pages of a file of 4196 bytes: page 2 is beyond its end
//	newline      of a file whose name holds a newline and spaces
//	deleted      private, of a file that has no name left; page 0 is written
//	deletedclean, replaced    the same, nothing is written; in place of the latter there is another file
//	memfdprivate    read-only, of a memfd of 4 pages, 3 of them written
//	sparse       private, by --sparse (16M): pages 1 and the last but one are in the file, 2 and the middle one
//	             are written by the process, the rest is holes
//	memfd        shared, sparse, by --memfd (256M): the first, the middle and the last page are written
//	huge         a private page of 2 MiB, partly stamped; see HugePages
//	thp          4 MiB, advised to have huge pages
//	reserved     with --reserved SIZE, private, MAP_NORESERVE: the first, the middle and the last page are written
//	hugeshared   with --hugeshared, a shared page of 2 MiB, partly stamped
//	sysv         System V shared memory, 4 pages, 2 of them written
//	droppable    MAP_DROPPABLE, 4 pages, 2 of them written
//	guard        5 pages; page 2 is a guard (MADV_GUARD_INSTALL)
//	guardfile    4 pages of a file, private; page 1 is a guard, page 3 is written
//	guardshared  4 pages of shared memory; page 1 is a guard with data behind it
//	secret       memfd_secret, 2 pages
//	uffd         4 pages with a userfaultfd in MISSING mode and nobody to serve it; page 0 is there. The fact
//	             uffdmode is full where the kernel's own accesses would wait too, else user
//
// Two more are the kernel's, so that nobody knows what they hold, and the process never touches
// them. They are the facts "area aio ADDR LEN" (io_setup(2)) and "area uring ADDR LEN"
// (io_uring_setup(2)).
//
// --only A,B,.. and --without A,B,.. choose among them. --nospin blocks zoo-6 in poll, so that
// zoo takes no processor time. Commands:
//
//	touch|zero|drop|punch|unmap|remap NAME [FIRST [COUNT]]
//	                   ok; pages of a mapping (without numbers all, without COUNT one): stamp, fill with zeros,
//	                   MADV_DONTNEED, MADV_REMOVE, munmap, munmap and a new mapping in its place
//	protect NAME rwx   ok; mprotect, with the letters that are given ("-" for none)
//	move NAME          ok ADDR; mremap to another place
//	alias NAME NEW     ok ADDR; shared memory is mapped once more, by another name
//	open NAME, pwrite NAME PAGE    ok; opens shared memory for writing, and writes a page of it by a system call
//	add NAME LEN       ok ADDR; a new private mapping, all stamped
//	spin               spin ROUNDS MISMATCHES: of zoo-6, and how often a register had changed
//	wake               wake WAKES MISMATCHES: ends the futex call of zoo-1, which then begins another
//	returns            returns N: how many blocking calls have returned that never should
//
// # witness
//
// One thread stamps pages in order; see CheckWitness. Facts: base ADDR, pages N. --pages N
// (1024), --memory anon|shared|memfd|thp. The command sweeps answers sweeps N. With --process
// another process does it, which has the same memory (CLONE_VM without CLONE_THREAD); fact:
// process PID. With --twice it writes by turns to two mappings of the same shared memory; fact:
// second ADDR. With --child another process has a mapping of that, too; fact: child PID.
//
// With --churn, other threads fill, drop, move, unmap and map regions of memory, and tell in a
// table what each holds; see Churn. Fact: churn ADDR REGIONS PAGES. The command operations
// answers operations N. One more thread starts threads that end at once.
//
// # many
//
//	threads N      N threads named many, blocked in futex, with stacks of 64 KiB
//	mappings N     fact mappings ADDR N: N mappings of one stamped page each, by turns rw- and r-- (N above
//	               vm.max_map_count fails)
//	storm M        M threads alive, each of which lives for --life microseconds (200) and starts its successor;
//	               the command storm answers storm STARTED ALIVE
//	fill BYTES [random|zero|mixed]    fact fill ADDR LEN KIND; see Fill; --memory as for witness
//
// With fill, --writer RATE counts up in the last word of page after page, at RATE pages per
// second. 0 is as many as it can. It does so in all memory, or in the first --writeset bytes.
// Commands: writes answers writes N; writer RATE answers ok (-1 stops it).
//
// # signals
//
// The threads sig-sleep, sig-read and sig-loop (not with --noloop) take SIGUSR1 and eight
// realtime signals, by the facts usr1 and rtmin. Commands:
//
//	send usr1|rt0..rt7 COUNT [TID]    ok PID: that child of it sends COUNT signals with the values 1 to COUNT
//	counts                            counts USR1 RT0 .. RT7 SUM SPURIOUS: signals handled, the sum of the values
//	                                  of realtime signals, calls interrupted without a handler
//
// # kids
//
//	fork           ok PID: a child that lives as long as this process
//	zombie         ok PID: a child that has ended
//	trace          ok PID: a child that traces this process
//	reap           ok: kills the last of these, and waits for it
//	vfork          ok PID, said by the child; until the next line, whatever it is, the parent is stuck in vfork
//	               (state D), and then says ok
//	threads N      ok N: N more threads, blocked in futex
//	leaderexit     ok TID: the main thread has ended (state Z); the thread TID answers from now on
//	exec PATH ARG.., threadexec PATH ARG..    Send, then ReadFacts; the latter by another thread than the caller
//	seccomp kill|errno    ok: userfaultfd, fork, vfork, and clone without CLONE_THREAD now kill the process, or fail
//	seccomp strict        ok: the main thread may read, write and end, or is killed
//	processes N           ok: its user may have no more than N processes (RLIMIT_NPROC)
//	files N               ok: it may have no file descriptor above N (RLIMIT_NOFILE)
//	close FD              ok
//	auxv ADDR             ok: its auxiliary vector says that the vDSO is at ADDR
//	vdso                  ok: the vDSO is writable
//	unshare pid|time      ok: the next child will be the first in a new namespace
//	unshare pid PATH      ok: children of the main thread will be in this pid namespace
//	huge                  ok: it has written to a private huge page (hugetlb) that it maps without a reservation
//	lasting               ok VALUE ATTACHED LAST SIGNALS RSS: of a semaphore that is undone at its end, and of a segment of
//	                      System V memory, which it was the last to attach or detach (1) or not (0); how many SIGCHLD it
//	                      had; the most memory that one of its children had, in KiB. It locks the file "lock"
//	slurp PATH 1|2        ok TID BUFFER SIZE FLAG: that thread reads the file into the buffer, at once or in two
//	                      pieces with a page between them (readv), and then sets the flag, a word, to 1
//	map PATH HOW          ok ADDR SIZE: the file is mapped private, shared or as text (private, executable); its
//	                      first byte is touched, and counted up where it can be written
//	compute               ok, and when SIGUSR1 has come, done; meanwhile the main thread makes no system call
//	frail                 ok TID: a thread is in epoll_wait, and ends the process with the status 7 where that returns
//	                      EINTR
//	vectors 0|1           ok, and when SIGUSR1 has come, done CHANGED SIZE: how many values in vectors of SIZE bytes
//	                      have changed, with streaming mode (1) or without; arm64 alone
//	wait CALL MS          ok, and when the system call of the main thread has ended, done RESULT HANDLED MS: what it
//	                      returned, how many handlers ran, how long it took. A call may begin again after SIGUSR1,
//	                      and not after SIGUSR2
//	dumpable 0|1, setuid UID    ok
//
// # odd
//
// Names that are hard to print, to read, or to believe. Those of commands are in hexadecimal.
//
//	map NAME              ok ADDR; a private page of a new file in its folder
//	thread [NAME]         ok TID; a blocked thread of that name, or of none
//	name [NAME]           ok; of the main thread
//	deep PROGRAM N        execute a copy of PROGRAM (not in hexadecimal) below N folders, each in the other, whose names have
//	                      200 letters: Send, then ReadFacts
//	exec PROGRAM [ARG0]   likewise, without arguments
//	wait PATH             ok; then it maps the file (not in hexadecimal): see StuckFile
//	args SIZE             ok; its arguments are that much memory that it never touched
//
// # torture
//
// A process that notices whatever is done to it. It has the threads
//
//	in-futex, in-nanosleep, in-poll, in-read, in-epoll, in-sigsuspend, in-pselect, in-wait4 (for any child),
//	in-waitall (with __WALL)    in calls that must not return, all with a known value in each register
//	spin              computes with known values in all registers: general, vector, mask, MXCSR, red zone
//	rseq-1, rseq-2    count in restartable sequences
//	timed             in calls that must not return before 5 ms
//	values, ticks     in read, while they handle signals
//	writer            verifies the memory that it writes, drops, moves, unmaps and maps
//
// and two children: one that sleeps, and one that sends realtime signals to spin, rseq-1 and
// values. Facts: map ballast (--ballast SIZE, 16M: stamped), idle PID and sender PID (the
// children), rtmin, pipe FD (which the blocked threads read), vector 16|32|64. The command
// check, for which see Proc.Check, wakes each blocked thread once by a signal and answers check
// NAME=N ..; what must be zero is
//
//	registers    how often one had changed
//	returned     calls that should have gone on: any, for whatever reason but the signal of check; of epoll_wait
//	             all but EINTR, which is counted apart
//	slept        of nanosleep: has begun anew, or was too long
//	early        calls that returned before their time
//	rseq         increments that were lost because a sequence was not aborted
//	ticks        of a timer: one was lost, or came twice
//	values       of signals: one was lost, or came twice, or in the wrong order
//	memory       that is not what was written
//	sigchld      no child ever ends
//	foreign      children that could be waited for
//
// and what begins with a plus grows: wakes, spins, increments, ticks, values, writes; eintr
// does so wherever a tracer has stopped the process.
//
// # hunter
//
// A process that looks for what others put into it. With --hunt, the thread forks forks all the
// time, and each child looks for a userfaultfd in its table of files. The thread lists looks
// for one in the table of the process. So does a process that shares that table. The thread
// waits looks for children that send no SIGCHLD, of which there are none. The command seen
// answers seen LOOKS FORKED LISTED SHARED WAITED: how often they have looked, and what they
// have found.
//
// With --forkevents the thread hides has a table of files of its own. In it is a userfaultfd
// that tells of forks, and nobody reads of them.
//
// With --tables the main thread computes, and the thread serves, which answers in its place,
// has a table of files of its own. On amd64 and arm64 the facts gadget-other, gadget-int80 (not
// on arm64) and gadget-spin are addresses of code that calls alarm(1000), of an int $0x80, and
// of a loop without end. The command alarm answers alarm SECONDS: that were left.
//
// # frames
//
// Threads whose stacks are hard to walk. All of them are blocked in fr_block:
//
//	fr-altstack    in a handler (fr_inner) that came in a handler (fr_outer), on a stack for signals
//	fr-fault       in a handler of a fault at the first instruction of fr_trap; in front of it is code with another frame
//	fr-noreturn    below fr_last, of which the call is the last instruction
//	fr-realign     below fr_realign, whose stack is aligned to 128 bytes and has a part of variable size
//	fr-jit         below fr_called, which code that was made at run time has called, as it has fr_again
//	fr-deep        below --depth (1000) frames of fr_deep
//
// # goprog
//
// A Go program with goroutines in main.blockedOnChannel, blockedInSelect, blockedInSyscall,
// blockedOnMutex, asleep and running (not with --nospin). Facts: needle data, needle heap,
// goroutines N. Commands: ping, spin, gc, abort.
package testproc
