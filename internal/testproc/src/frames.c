// frames: threads whose stacks are hard to walk.
#include "helper.h"
#include <alloca.h>

__attribute__((noinline)) static void fr_block(struct thread *t) {
	uint32_t word = 0;
	settle(t);
	for (;;) futex(&word, OP_FUTEX_WAIT, 0);
}

// The thread that a handler is of: only one is in a handler at a time.
static _Thread_local struct thread *self;

// ---- altstack: a signal handler on a stack of its own, and one more in it ----

__attribute__((noinline)) static void fr_inner(int sig) {
	(void)sig;
	fr_block(self);
}

__attribute__((noinline)) static void fr_outer(int sig) {
	(void)sig;
	raise(SIGUSR2);
}

static void handle_on_stack(int sig, void (*handler)(int)) {
	struct sigaction sa = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
	if (sigaction(sig, &sa, NULL)) die("sigaction");
}

static void use_altstack(void) {
	stack_t ss = {.ss_size = 256 << 10};
	ss.ss_sp = mmap(NULL, ss.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ss.ss_sp == MAP_FAILED || sigaltstack(&ss, NULL)) die("sigaltstack");
}

static void altstack(struct thread *t) {
	self = t;
	use_altstack();
	raise(SIGUSR1);
}

// ---- fault: a signal at the first instruction of a function, which has another frame than
// the one in front of it. With SA_SIGINFO, i386 has another frame for the handler ----

#if defined(__x86_64__) || defined(__i386__)
#define TRAP "ud2"
#else
#define TRAP "udf #0"
#endif
__asm__(".text\n.globl fr_before\nfr_before:\n.cfi_startproc\n.cfi_adjust_cfa_offset 4096\n" TRAP "\n.cfi_endproc\n"
	".globl fr_trap\n.type fr_trap, %function\nfr_trap:\n.cfi_startproc\n" TRAP "\n.cfi_endproc\n.size fr_trap, . - fr_trap\n");
void fr_trap(void);

__attribute__((noinline)) static void fr_faulted(int sig, siginfo_t *info, void *context) {
	(void)sig, (void)info, (void)context;
	fr_block(self);
}

static void fault(struct thread *t) {
	self = t;
	struct sigaction sa = {.sa_sigaction = fr_faulted, .sa_flags = SA_SIGINFO};
	if (sigaction(SIGILL, &sa, NULL)) die("sigaction");
	fr_trap();
}

// ---- noreturn: the call is the last instruction of its function ----

__attribute__((noreturn, noinline)) static void fr_never(struct thread *t) {
	for (;;) fr_block(t);
}

__attribute__((noreturn, noinline)) static void fr_last(struct thread *t) { fr_never(t); }

static void noreturn_(struct thread *t) { fr_last(t); }

// ---- realign: frames that are found by expressions and by other registers ----

__attribute__((noinline)) static void fr_realign(struct thread *t, size_t n) {
	_Alignas(128) volatile char wide[128];
	volatile char *more = alloca(n);
	wide[0] = more[0] = 1;
	fr_block(t);
	more[n - 1] = wide[1];
}

static void realign(struct thread *t) { fr_realign(t, 1000 + t->index); }

// ---- jit: code that was made at run time, between functions that were not ----

static char *jit_code;

typedef void jit_call(void (*)(struct thread *), struct thread *);

static const unsigned char jit_text[] = {
#if defined(__x86_64__) // push %rbp; mov %rsp, %rbp; mov %rdi, %rax; mov %rsi, %rdi; call *%rax; pop %rbp; ret
	0x55, 0x48, 0x89, 0xe5, 0x48, 0x89, 0xf8, 0x48, 0x89, 0xf7, 0xff, 0xd0, 0x5d, 0xc3
#elif defined(__i386__) // push %ebp; mov %esp, %ebp; push 12(%ebp); call *8(%ebp); leave; ret
	0x55, 0x89, 0xe5, 0xff, 0x75, 0x0c, 0xff, 0x55, 0x08, 0xc9, 0xc3
#else // stp x29, x30, [sp, #-16]!; mov x29, sp; mov x2, x0; mov x0, x1; blr x2; ldp x29, x30, [sp], #16; ret
	0xfd, 0x7b, 0xbf, 0xa9, 0xfd, 0x03, 0x00, 0x91, 0xe2, 0x03, 0x00, 0xaa, 0xe0, 0x03, 0x01, 0xaa,
	0x40, 0x00, 0x3f, 0xd6, 0xfd, 0x7b, 0xc1, 0xa8, 0xc0, 0x03, 0x5f, 0xd6
#endif
};

__attribute__((noinline)) static void fr_called(struct thread *t) { fr_block(t); }

__attribute__((noinline)) static void fr_again(struct thread *t) { ((jit_call *)jit_code)(fr_called, t); }

static void jit(struct thread *t) {
	jit_code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (jit_code == MAP_FAILED) die("mmap");
	memcpy(jit_code, jit_text, sizeof jit_text);
	if (mprotect(jit_code, PAGE, PROT_READ | PROT_EXEC)) die("mprotect");
	__builtin___clear_cache(jit_code, jit_code + sizeof jit_text);
	((jit_call *)jit_code)(fr_again, t);
}

// ---- deep: --depth levels of recursion ----

static size_t depth;

__attribute__((noinline)) static size_t fr_deep(struct thread *t, size_t n) {
	if (n == 0) {
		fr_block(t);
		return 0;
	}
	return fr_deep(t, n - 1) + n;
}

static void deep(struct thread *t) { fr_deep(t, depth); }

static const struct {
	const char *name;
	void (*run)(struct thread *);
} kinds[] = {{"altstack", altstack}, {"fault", fault}, {"noreturn", noreturn_}, {"realign", realign}, {"jit", jit}, {"deep", deep}};

#define KINDS (sizeof kinds / sizeof *kinds)

int main(int argc, char **argv) {
	static struct thread threads[KINDS];
	init(argc, argv);
	depth = size_opt("--depth", 1000);
	handle_on_stack(SIGUSR1, fr_outer);
	handle_on_stack(SIGUSR2, fr_inner);
	for (size_t i = 0; i < KINDS; i++) {
		threads[i] = (struct thread){.run = kinds[i].run, .index = i};
		snprintf(threads[i].name, sizeof threads[i].name, "fr-%s", kinds[i].name);
		pthread_attr_t attr;
		pthread_attr_init(&attr);
		if ((errno = pthread_attr_setstacksize(&attr, (1 << 20) + 128 * depth))) die("pthread_attr_setstacksize");
		start(&threads[i], &attr);
		pthread_attr_destroy(&attr);
		wait_blocked(&threads[i]);
		say("thread %s %d %s", threads[i].name, threads[i].tid, kinds[i].name);
	}
	ready(NULL);
}
