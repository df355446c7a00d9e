// torture: a process that notices whatever is done to it. Its threads block
// in calls that must not return, compute with known values in all registers,
// are inside of restartable sequences, count signals, and verify the memory
// that they change; "check" tells what went wrong.
#include "helper.h"
#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/select.h>

// What must stay zero.
static int64_t registers, returned, slept, early, rseq_lost, ticks_wrong, values_wrong, memory, sigchld, foreign;
// What tells that there is progress, and how often epoll_wait gave EINTR,
// which any stop by a tracer makes it do.
static int64_t wakes, spins, increments, ticks, values, writes, eintr;

// breathe sleeps for three times as long as a thread has worked, so that the
// threads that never wait leave the machine a processor. A scheduler may let
// all others starve for a minute while a group of threads takes all of it.
static uint64_t breathe(uint64_t began) {
	uint64_t worked = now_ns() - began;
	sleep_ns(3 * (worked < 3000000 ? worked : 3000000));
	return now_ns();
}

// ---- all registers hold known values, in a loop and in a system call ----

#if defined(__x86_64__)
enum { RAX, RBX, RCX, RDX, RSI, RDI, RBP, R8, R9, R10, R11, R12, R13, R14, R15, GPRS };

struct held {
	uint64_t gpr[GPRS], carry, mxcsr, red_zone[2], mask[8];
	unsigned char vector[32][64];
};

// torture_hold loads all registers, takes n rounds of a loop that changes
// none, or makes a system call if n is 0, and stores all registers. width is
// 0, 1 or 2 for xmm, ymm or zmm.
void torture_hold(const struct held *in, struct held *out, long n, long width);

__asm__(
	".macro EACH op, reg, size, first, last, load\n"
	" .irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
	"  .if \\i <= \\last\n"
	"   .if \\load\n    \\op \\size*\\i+\\first(%rdi), %\\reg\\i\n"
	"   .else\n    \\op %\\reg\\i, \\size*\\i+\\first(%rdi)\n   .endif\n"
	"  .endif\n"
	" .endr\n"
	".endm\n"
	".macro VECTORS load\n" // the width is in ecx
	" cmp $1, %ecx\n jb 1f\n je 2f\n"
	" EACH vmovdqu64, zmm, 64, 216, 31, \\load\n EACH kmovq, k, 8, 152, 7, \\load\n jmp 3f\n"
	"2: EACH vmovdqu, ymm, 64, 216, 15, \\load\n jmp 3f\n"
	"1: EACH movdqu, xmm, 64, 216, 15, \\load\n3:\n"
	".endm\n"
	".text\n.globl torture_hold\n.type torture_hold, @function\ntorture_hold:\n"
	" push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
	" push %rsi\n push %rcx\n push $0\n stmxcsr (%rsp)\n push %rdx\n" // out, width, mxcsr, n
	" VECTORS 1\n"
	" ldmxcsr 128(%rdi)\n"
	" mov 136(%rdi), %rax\n mov %rax, -8(%rsp)\n mov 144(%rdi), %rax\n mov %rax, -128(%rsp)\n"
	" mov (%rdi), %rax\n mov 8(%rdi), %rbx\n mov 16(%rdi), %rcx\n mov 24(%rdi), %rdx\n mov 32(%rdi), %rsi\n"
	" mov 48(%rdi), %rbp\n mov 56(%rdi), %r8\n mov 64(%rdi), %r9\n mov 72(%rdi), %r10\n mov 80(%rdi), %r11\n"
	" mov 88(%rdi), %r12\n mov 96(%rdi), %r13\n mov 104(%rdi), %r14\n mov 112(%rdi), %r15\n mov 40(%rdi), %rdi\n"
	" cmpq $0, (%rsp)\n stc\n je 5f\n"
	"4: decq (%rsp)\n jnz 4b\n jmp 6f\n" // dec leaves the carry flag
	"5: syscall\n"
	"6: xchg %rdi, 24(%rsp)\n mov %rax, (%rdi)\n setc %al\n movzbl %al, %eax\n mov %rax, 120(%rdi)\n"
	" mov %rbx, 8(%rdi)\n mov %rcx, 16(%rdi)\n mov %rdx, 24(%rdi)\n mov %rsi, 32(%rdi)\n"
	" mov %rbp, 48(%rdi)\n mov %r8, 56(%rdi)\n mov %r9, 64(%rdi)\n mov %r10, 72(%rdi)\n mov %r11, 80(%rdi)\n"
	" mov %r12, 88(%rdi)\n mov %r13, 96(%rdi)\n mov %r14, 104(%rdi)\n mov %r15, 112(%rdi)\n"
	" mov 24(%rsp), %rax\n mov %rax, 40(%rdi)\n"
	" mov -8(%rsp), %rax\n mov %rax, 136(%rdi)\n mov -128(%rsp), %rax\n mov %rax, 144(%rdi)\n"
	" stmxcsr 128(%rdi)\n ldmxcsr 8(%rsp)\n"
	" mov 16(%rsp), %rcx\n VECTORS 0\n test %ecx, %ecx\n jz 7f\n vzeroupper\n"
	"7: add $32, %rsp\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n"
	".size torture_hold, .-torture_hold\n");

static struct held known;
static long width;

static void init_registers(void) {
	__builtin_cpu_init();
	width = __builtin_cpu_supports("avx512bw") ? 2 : __builtin_cpu_supports("avx") ? 1 : 0;
	for (int i = 0; i < GPRS; i++) known.gpr[i] = mix(stamp + i);
	known.carry = 1;
	known.mxcsr = 0x3f80; // rounds down
	known.red_zone[0] = mix(stamp + 50), known.red_zone[1] = mix(stamp + 51);
	for (int i = 0; width == 2 && i < 8; i++) known.mask[i] = mix(stamp + 100 + i);
	for (int i = 0; i < (width == 2 ? 32 : 16); i++)
		for (int k = 0; k < 2 << width; k++) {
			uint64_t v = mix(stamp + 200 + 8 * i + k);
			memcpy(&known.vector[i][8 * k], &v, 8);
		}
	say("vector %d", 16 << width);
}

static void spin(struct thread *t) {
	settle(t);
	for (uint64_t began = now_ns();; add(&spins, 1), began = breathe(began)) {
		struct held out = {0};
		torture_hold(&known, &out, 1000000, width);
		if (memcmp(&out, &known, sizeof out)) add(&registers, 1);
	}
}

// call is a system call with known values in all other registers.
static long call(long number, const long *args) {
	struct held in = known, out = {0};
	static const int order[] = {RDI, RSI, RDX, R10, R8, R9};
	in.gpr[RAX] = number;
	for (int i = 0; i < 6; i++) in.gpr[order[i]] = args[i];
	torture_hold(&in, &out, 0, width);
	long r = out.gpr[RAX];
	// The instruction changes these.
	in.gpr[RAX] = out.gpr[RAX], in.gpr[RCX] = out.gpr[RCX], in.gpr[R11] = out.gpr[R11];
	if (memcmp(&out, &in, sizeof out)) add(&registers, 1);
	return r;
}
#else
static void init_registers(void) { say("no registers this is not amd64"); }

static void spin(struct thread *t) {
	settle(t);
	for (uint64_t began = now_ns();; began = breathe(began))
		for (int i = 0; i < 100000; i++) add(&spins, 1);
}

static long call(long number, const long *a) {
	long r = syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	return r < 0 ? -errno : r;
}
#endif

// ---- calls that must not return, but for the signal WAKE ----

#define WAKE SIGUSR2
static __thread volatile int handled; // by this thread

static void on_wake(int sig) { (void)sig, handled++; }

static void unblock(int sig) {
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, sig);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

#define LONG_TIME 1000000       // seconds
#define ALL_CHILDREN 0x40000000 // __WALL, for those without an exit signal too
static int pipe_fds[2];   // nobody writes
static uint32_t futex_word;
static sigset_t all_but_wake;
static struct timespec request, rest; // of nanosleep

// arm64 has calls that do the same, but poll's takes a timespec and writes to it.
#if defined(SYS_poll)
#define POLL_TIME(ms) (ms)
#else
#define POLL_TIME(ms) ((long)&poll_time)
#define SYS_poll SYS_ppoll
#define SYS_epoll_wait SYS_epoll_pwait
#endif
static __thread struct timespec poll_time;

static struct blocked {
	const char *name;
	long number, args[6];
	struct thread thread;
	uint64_t woken;                      // returns because of WAKE
	uint64_t calls;                      // entered, or about to be
	uint64_t began, seen, ended;         // times: before the call; when it was seen to be blocked; after it
} blocked[] = {{"futex"}, {"nanosleep"}, {"poll"}, {"read"}, {"epoll"}, {"sigsuspend"}, {"pselect"}, {"wait4"},
	{"waitall"}};
#define BLOCKED (sizeof blocked / sizeof *blocked)

// arrange fills in the arguments, some of which a call changes.
static void arrange(struct blocked *b) {
	static struct pollfd pollfd;
	static struct epoll_event event;
	static fd_set fds;
	static struct timespec timeout;
	static struct { const void *set; size_t size; } mask = {&all_but_wake, 8};
	static int epoll = -1;
	static char byte;
	switch (b - blocked) {
	case 0: b->number = SYS_futex, b->args[0] = (long)&futex_word, b->args[1] = OP_FUTEX_WAIT; break;
	case 1:
		request.tv_sec = LONG_TIME;
		b->number = SYS_nanosleep, b->args[0] = (long)&request, b->args[1] = (long)&rest;
		break;
	case 2:
		pollfd = (struct pollfd){pipe_fds[0], POLLIN, 0};
		poll_time = (struct timespec){LONG_TIME, 0};
		b->number = SYS_poll, b->args[0] = (long)&pollfd, b->args[1] = 1, b->args[2] = POLL_TIME(LONG_TIME * 1000l);
		break;
	case 3: b->number = SYS_read, b->args[0] = pipe_fds[0], b->args[1] = (long)&byte, b->args[2] = 1; break;
	case 4:
		event = (struct epoll_event){.events = EPOLLIN};
		if (epoll < 0 && ((epoll = epoll_create1(EPOLL_CLOEXEC)) < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, pipe_fds[0], &event)))
			die("epoll");
		b->number = SYS_epoll_wait, b->args[0] = epoll, b->args[1] = (long)&event, b->args[2] = 1, b->args[3] = -1;
		break;
	case 5: b->number = SYS_rt_sigsuspend, b->args[0] = (long)&all_but_wake, b->args[1] = 8; break;
	case 6:
		FD_ZERO(&fds);
		FD_SET(pipe_fds[0], &fds);
		timeout = (struct timespec){LONG_TIME, 0};
#if !defined(SYS_pselect6)
#define SYS_pselect6 SYS_pselect6_time32
#endif
		b->number = SYS_pselect6, b->args[0] = pipe_fds[0] + 1, b->args[1] = (long)&fds, b->args[4] = (long)&timeout;
		b->args[5] = (long)&mask;
		break;
	case 7: b->number = SYS_wait4, b->args[0] = -1; break;
	case 8: b->number = SYS_wait4, b->args[0] = -1, b->args[2] = ALL_CHILDREN; break;
	}
}

// unexpected tells of a call that has returned what it must not.
static void unexpected(long number, long result) {
	add(&returned, 1);
	dprintf(2, "system call %ld returned %ld\n", number, result);
}

static void block(struct thread *t) {
	struct blocked *b = t->arg;
	if (strcmp(b->name, "sigsuspend") && strcmp(b->name, "pselect")) unblock(WAKE);
	prctl(PR_SET_TIMERSLACK, 1);
	for (;;) {
		arrange(b);
		int before = handled;
		b->began = now_ns();
		add(&b->calls, 1);
		settle(t);
		long r = call(b->number, b->args);
		b->ended = now_ns();
		if (r == -EINTR && handled != before) add(&b->woken, 1);
		else if (r == -EINTR && b->number == SYS_epoll_wait) add(&eintr, 1);
		else unexpected(b->number, r);
	}
}

// wake has a thread return from its call, check its registers, and begin
// another call. nanosleep then tells how long it has slept: less, if it was
// begun anew meanwhile.
static void wake(struct blocked *b) {
	uint64_t woken = load(&b->woken), calls = load(&b->calls), began = b->began, asked = now_ns();
	for (;;) {
		char state = thread_state(b->thread.task); // before woken, so that WAKE is sent once
		if (load(&b->woken) != woken) break;
		if (state == 'S') syscall(SYS_tgkill, getpid(), b->thread.tid, WAKE);
		sleep_ns(100000);
	}
	while (load(&b->calls) == calls) sleep_ns(100000);
	wait_blocked(&b->thread);
	if (b->number == SYS_nanosleep) {
		const uint64_t tolerance = 1000;
		uint64_t time = LONG_TIME * 1000000000ull - (rest.tv_sec * 1000000000ull + rest.tv_nsec);
		if (time + tolerance < asked - b->seen || time > b->ended - began + tolerance) add(&slept, 1);
	}
	b->seen = now_ns();
	add(&wakes, 1);
}

// ---- calls with a timeout never return before it ----

static void timed(struct thread *t) {
	static struct timespec ts = {0, 5000000};
	static uint32_t word;
	static struct pollfd pollfd;
	static struct epoll_event event;
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	const struct { long args[6], number, result; } calls[] = {
		{{(long)&ts, 0}, SYS_nanosleep, 0},
		{{(long)&pollfd, 1, POLL_TIME(5)}, SYS_poll, 0},
		{{(long)&word, OP_FUTEX_WAIT, 0, (long)&ts}, SYS_futex, -ETIMEDOUT},
		{{epoll, (long)&event, 1, 5}, SYS_epoll_wait, 0},
	};
	pollfd = (struct pollfd){pipe_fds[0], POLLIN, 0};
	settle(t);
	for (size_t i = 0;; i = (i + 1) % 4) {
		poll_time = (struct timespec){0, 5000000};
		uint64_t before = now_ns();
		long r = call(calls[i].number, calls[i].args);
		if (r == -EINTR && calls[i].number == SYS_epoll_wait) add(&eintr, 1);
		else if (r != calls[i].result) unexpected(calls[i].number, r);
		else if (now_ns() - before < 5000000) add(&early, 1);
	}
}

// ---- restartable sequences ----

// Two threads count in a word of each processor. An increment that was begun
// before another thread had the processor, and is finished after, loses one.
#if defined(__x86_64__) || defined(__aarch64__)
static int rseq_pause, rseq_paused;
#define RSEQ_THREADS 2
#define MAX_CPUS 4096
static uint64_t per_cpu[MAX_CPUS];

struct rseq_area { uint32_t cpu_id_start, cpu_id; uint64_t rseq_cs; uint32_t flags, rest[3]; } __attribute__((aligned(32)));
static __thread struct rseq_area own_area;

// glibc 2.35 and later register an area for each thread.
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned __rseq_size __attribute__((weak));

// torture_rseq counts up in a word of the processor, slowly, and returns 1 if
// the kernel has sent it to its abort handler.
long torture_rseq(struct rseq_area *area, uint64_t *counters);
#if defined(__aarch64__)
#define RSEQ_SIGNATURE 0xd428bc00
__asm__(
	".data\n.balign 32\ntorture_cs: .long 0, 0\n .quad 10f, 20f-10f, 30f\n"
	".text\n.globl torture_rseq\n.type torture_rseq, %function\ntorture_rseq:\n"
	" adrp x9, torture_cs\n add x9, x9, :lo12:torture_cs\n str x9, [x0, 8]\n"
	"10: ldr w10, [x0, 4]\n ldr x11, [x1, x10, lsl 3]\n"
	" mov w12, 1000\n11: subs w12, w12, 1\n b.ne 11b\n"
	" add x11, x11, 1\n str x11, [x1, x10, lsl 3]\n"
	"20: mov x0, 0\n ret\n"
	" .inst 0xd428bc00\n"
	"30: mov x0, 1\n ret\n.size torture_rseq, .-torture_rseq\n");
#else
#define RSEQ_SIGNATURE 0x53053053
#undef SYS_rseq // musl may not have it
#define SYS_rseq 334
__asm__(
	".data\n.balign 32\ntorture_cs: .long 0, 0\n .quad 10f, 20f-10f, 30f\n"
	".text\n.globl torture_rseq\n.type torture_rseq, @function\ntorture_rseq:\n"
	" lea torture_cs(%rip), %rax\n mov %rax, 8(%rdi)\n"
	"10: mov 4(%rdi), %ecx\n mov (%rsi,%rcx,8), %rax\n"
	" mov $1000, %edx\n11: dec %edx\n jnz 11b\n"
	" inc %rax\n mov %rax, (%rsi,%rcx,8)\n"
	"20: xor %eax, %eax\n ret\n"
	" .byte 0x0f, 0xb9, 0x3d\n .long 0x53053053\n"
	"30: mov $1, %eax\n ret\n.size torture_rseq, .-torture_rseq\n");
#endif

static void sequences(struct thread *t) {
	struct rseq_area *area = &own_area;
	if (&__rseq_size && __rseq_size) area = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);
	else if (syscall(SYS_rseq, area, sizeof *area, 0, RSEQ_SIGNATURE)) die("rseq");
	settle(t);
	for (uint64_t began = now_ns();; began = breathe(began)) {
		for (int n = 0; n < 1000;)
			if (torture_rseq(area, per_cpu) == 0) n++;
		add(&increments, 1000);
		if (load(&rseq_pause)) {
			add(&rseq_paused, 1);
			while (load(&rseq_pause)) sleep_ns(100000);
			add(&rseq_paused, -1);
		}
	}
}

// check_rseq compares the sum with what the threads have counted, while they
// pause.
static void check_rseq(void) {
	store(&rseq_pause, 1);
	while (load(&rseq_paused) < RSEQ_THREADS) sleep_ns(100000);
	int64_t sum = 0;
	for (int i = 0; i < MAX_CPUS; i++) sum += per_cpu[i];
	store(&rseq_lost, load(&increments) - sum);
	store(&rseq_pause, 0);
	while (load(&rseq_paused)) sleep_ns(100000);
}
#else
#define RSEQ_THREADS 0
static void sequences(struct thread *t) { spin(t); }
static void check_rseq(void) {}
#endif

// ---- signals: none is lost, none comes twice ----

// A child sends values that count up, to three threads: one that computes,
// one in restartable sequences, and one in read. Signals of one number and
// one thread arrive in order.
#define SENT 3
static int64_t last_value[SENT];

static void on_value(int sig, siginfo_t *info, void *context) {
	(void)context;
	int64_t *last = &last_value[sig - SIGRTMIN], value = info->si_value.sival_int;
	if (value != *last + 1) add(&values_wrong, 1);
	*last = value;
	add(&values, 1);
}

// The handlers have SA_RESTART, so that read never returns.
static void in_read(struct thread *t) {
	const long args[6] = {pipe_fds[0], (long)&(char){0}, 1};
	unblock(SIGRTMIN + t->index);
	settle(t);
	for (;;) unexpected(SYS_read, call(SYS_read, args));
}

static pid_t send_values(const pid_t *to) {
	pid_t parent = getpid(), child = fork();
	if (child < 0) die("fork");
	if (child) return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "sender");
	for (int fd = 0; fd < 3; fd++) close(fd);
	for (int value = 1; getppid() == parent; value++, sleep_ns(1000000))
		for (int i = 0; i < SENT; i++) {
			siginfo_t info;
			memset(&info, 0, sizeof info);
			info.si_code = SI_QUEUE, info.si_pid = getpid(), info.si_uid = getuid(), info.si_value.sival_int = value;
			while (syscall(SYS_rt_tgsigqueueinfo, parent, to[i], SIGRTMIN + i, &info)) { // the queue may be full
				if (errno != EAGAIN || getppid() != parent) _exit(1);
				sleep_ns(100000);
			}
		}
	_exit(0);
}

// A timer expires each millisecond, and tells how often it had expired when a
// signal was delivered. That is never more than the clock says, and as much,
// as soon as the handler runs without delay.
#define TICK (SIGRTMIN + SENT)
#define TICK_NS 1000000
static uint64_t first_tick;
static int64_t ticks_behind; // the least since it was reset

static void on_tick(int sig, siginfo_t *info, void *context) {
	(void)sig, (void)context;
	int64_t n = add(&ticks, 1 + info->si_overrun) + 1 + info->si_overrun;
	int64_t behind = (int64_t)((now_ns() - first_tick) / TICK_NS) + 1 - n;
	if (behind < 0) add(&ticks_wrong, 1);
	if (behind < load(&ticks_behind)) store(&ticks_behind, behind);
}

static void start_ticks(void) {
	timer_t id;
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = TICK};
	if (timer_create(CLOCK_MONOTONIC, &event, &id)) die("timer_create");
	first_tick = now_ns() + TICK_NS;
	struct timespec at = {first_tick / 1000000000, first_tick % 1000000000}, each = {0, TICK_NS};
	if (timer_settime(id, TIMER_ABSTIME, &(struct itimerspec){each, at}, NULL)) die("timer_settime");
}

// check_ticks waits for a tick that comes without delay. One that was lost
// leaves all that follow behind.
static void check_ticks(void) {
	store(&ticks_behind, INT64_MAX);
	for (int i = 0; load(&ticks_behind) > 0 && i < 10000; i++) sleep_ns(TICK_NS);
	if (load(&ticks_behind) > 0) add(&ticks_wrong, 1);
}

static void on_child(int sig) { (void)sig, add(&sigchld, 1); }

// ---- memory that its writer verifies; children that are not ours ----

#define PAGES 64

static void write_page(char *page, uint64_t value) {
	volatile uint64_t *w = (uint64_t *)page;
	for (size_t k = 0; k < PAGE / 8; k++) w[k] = value ? mix(value + k) : 0;
}

static int holds(char *page, uint64_t value) {
	volatile uint64_t *w = (uint64_t *)page;
	for (size_t k = 0; k < PAGE / 8; k++)
		if (w[k] != (value ? mix(value + k) : 0)) return 0;
	return 1;
}

static char *new_pages(void) {
	char *p = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED) die("mmap");
	return p;
}

// No child of ours ever ends, so that any that can be waited for is foreign.
static void look_for_children(void) {
	if (waitpid(-1, NULL, WNOHANG)) add(&foreign, 1);
	if (waitpid(-1, NULL, WNOHANG | ALL_CHILDREN)) add(&foreign, 1);
}

static void write_and_verify(struct thread *t) {
	uint64_t value[PAGES] = {0}, random = stamp;
	char *p = new_pages();
	settle(t);
	uint64_t began = now_ns();
	for (uint64_t n = 1;; n++) {
		if (n % 256 == 0) began = breathe(began);
		random = mix(random);
		size_t i = random % PAGES, end = i + 4 < PAGES ? i + 4 : PAGES;
		if (!holds(p + i * PAGE, value[i])) add(&memory, 1);
		switch (random >> 32 & 15) {
		case 0:
			madvise(p + i * PAGE, (end - i) * PAGE, MADV_DONTNEED);
			for (; i < end; i++) value[i] = 0;
			break;
		case 1:
			munmap(p, PAGES * PAGE);
			p = new_pages();
			memset(value, 0, sizeof value);
			break;
		case 2: {
			char *to = mremap(p, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, new_pages());
			if (to == MAP_FAILED) die("mremap");
			p = to;
			break;
		}
		default:
			value[i] = random;
			write_page(p + i * PAGE, value[i]);
		}
		add(&writes, 1);
		look_for_children();
		sleep_ns(50000);
	}
}

static void check_ballast(void) {
	for (size_t at = 0; at < ballast_size; at += 8)
		if (*(volatile uint64_t *)(ballast + at) != stamp + (uintptr_t)(ballast + at)) {
			add(&memory, 1);
			return;
		}
}

// ---- commands ----

static int handle(int argc, char **argv) {
	if (strcmp(argv[0], "check") || argc != 1) return 0;
	for (size_t i = 0; i < BLOCKED; i++) wake(&blocked[i]);
	check_rseq();
	check_ticks();
	check_ballast();
	static const struct { const char *name; int64_t *count; } counts[] = {
		{"registers", &registers}, {"returned", &returned}, {"slept", &slept}, {"early", &early}, {"rseq", &rseq_lost},
		{"ticks", &ticks_wrong}, {"values", &values_wrong}, {"memory", &memory}, {"sigchld", &sigchld}, {"foreign", &foreign},
		{"+wakes", &wakes}, {"+spins", &spins}, {"+increments", &increments}, {"+ticks", &ticks}, {"+values", &values},
		{"+writes", &writes}, {"+eintr", &eintr}};
	char line[1024];
	int n = sprintf(line, "check");
	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
		n += sprintf(line + n, " %s=%lld", counts[i].name, (long long)load(counts[i].count));
	say("%s", line);
	return 1;
}

static void handler(int sig, void (*simple)(int), void (*full)(int, siginfo_t *, void *), int flags) {
	struct sigaction sa = {.sa_flags = flags};
	sigfillset(&sa.sa_mask);
	if (full) sa.sa_sigaction = full, sa.sa_flags |= SA_SIGINFO;
	else sa.sa_handler = simple;
	sigaction(sig, &sa, NULL);
}

// The computing threads take a signal as well.
static void spin_with_signal(struct thread *t) { unblock(SIGRTMIN), spin(t); }
static void sequences_with_signal(struct thread *t) { unblock(SIGRTMIN + 1), sequences(t); }

static struct thread others[] = {
	{.name = "spin", .run = spin_with_signal},
	{.name = "rseq-1", .run = sequences_with_signal},
	{.name = "values", .run = in_read, .index = 2},
	{.name = "ticks", .run = in_read, .index = SENT},
	{.name = "rseq-2", .run = sequences},
	{.name = "timed", .run = timed},
	{.name = "writer", .run = write_and_verify},
};

int main(int argc, char **argv) {
	ballast_size = 16 << 20;
	init(argc, argv);
	init_registers();
	if (pipe2(pipe_fds, O_CLOEXEC)) die("pipe");
	sigset_t ours;
	sigfillset(&ours);
	pthread_sigmask(SIG_SETMASK, &ours, NULL); // a thread takes only what it asks for
	sigfillset(&all_but_wake), sigdelset(&all_but_wake, WAKE);
	handler(WAKE, on_wake, NULL, 0);
	handler(SIGCHLD, on_child, NULL, SA_RESTART);
	for (int i = 0; i < SENT; i++) handler(SIGRTMIN + i, NULL, on_value, SA_RESTART);
	handler(TICK, NULL, on_tick, SA_RESTART);
	unblock(SIGCHLD);

	pid_t idle = fork(); // for wait4
	if (idle < 0) die("fork");
	if (idle == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (int fd = 0; fd < 3; fd++) close(fd);
		for (;;) pause();
	}
	say("idle %d", idle);
	pid_t to[SENT];
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		start(&others[i], NULL);
		wait_settled(&others[i]);
		if (i < SENT) to[i] = others[i].tid;
		say("thread %s %d %s", others[i].name, others[i].tid, others[i].name);
	}
	for (size_t i = 0; i < BLOCKED; i++) {
		struct thread *t = &blocked[i].thread;
		t->run = block, t->arg = &blocked[i];
		snprintf(t->name, sizeof t->name, "in-%s", blocked[i].name);
		start(t, NULL);
		wait_blocked(t);
		blocked[i].seen = now_ns();
		say("thread %s %d %s", t->name, t->tid, blocked[i].name);
	}
	start_ticks();
	say("sender %d", send_values(to));
	say("rtmin %d", SIGRTMIN);
	say("pipe %d", pipe_fds[1]);
	ready(handle);
}
