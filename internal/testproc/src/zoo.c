// zoo: a process with one of every kind of memory and of blocked thread.
#include "helper.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

// ---- registers with known values, in a loop and in a system call ----

#if defined(__x86_64__)
#define GPRS 5
#define VECTORS 16
static const char *gpr_names[GPRS] = {"rbx", "r12", "r13", "r14", "r15"};
#elif defined(__aarch64__)
#define GPRS 5
#define VECTORS 16
static const char *gpr_names[GPRS] = {"x19", "x20", "x21", "x22", "x23"};
#else
#define GPRS 3
#define VECTORS 8
static const char *gpr_names[GPRS] = {"ebx", "esi", "edi"};
#endif

struct registers {
	unsigned long gpr[GPRS];
	unsigned char vector[VECTORS][32];
};

// zoo_spin loads the registers, counts n rounds in *counter with nothing else
// changing, and stores the registers. zoo_spin_loop to zoo_spin_end is the loop.
void zoo_spin(const struct registers *in, struct registers *out, volatile unsigned long *counter, long n, long avx);
extern char zoo_spin_loop[], zoo_spin_end[];

#if defined(__x86_64__)
// zoo_futex does the same around a FUTEX_WAIT in place of the loop.
long zoo_futex(const struct registers *in, struct registers *out, uint32_t *word, long val, long avx);

__asm__(
	".macro EACH op, base, reg, first, disp\n"
	" .irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
	"  .if \\first\n  \\op 32*\\i+40(\\base), %\\reg\\i\n  .else\n  \\op %\\reg\\i, 32*\\i+40(\\base)\n  .endif\n"
	" .endr\n"
	".endm\n"
	".macro SAVE r\n push %\\r\n .cfi_adjust_cfa_offset 8\n .cfi_rel_offset \\r, 0\n.endm\n"
	".macro BACK r\n pop %\\r\n .cfi_adjust_cfa_offset -8\n .cfi_restore \\r\n.endm\n"
	".macro ENTER\n"
	" SAVE rbx\n SAVE r12\n SAVE r13\n SAVE r14\n SAVE r15\n"
	" mov (%rdi), %rbx\n mov 8(%rdi), %r12\n mov 16(%rdi), %r13\n mov 24(%rdi), %r14\n mov 32(%rdi), %r15\n"
	" test %r8, %r8\n jz 1f\n EACH vmovdqu, %rdi, ymm, 1\n jmp 2f\n1: EACH movdqu, %rdi, xmm, 1\n2:\n"
	".endm\n"
	".macro LEAVE_\n"
	" mov %rbx, (%rsi)\n mov %r12, 8(%rsi)\n mov %r13, 16(%rsi)\n mov %r14, 24(%rsi)\n mov %r15, 32(%rsi)\n"
	" test %r8, %r8\n jz 1f\n EACH vmovdqu, %rsi, ymm, 0\n vzeroupper\n jmp 2f\n1: EACH movdqu, %rsi, xmm, 0\n2:\n"
	" BACK r15\n BACK r14\n BACK r13\n BACK r12\n BACK rbx\n"
	" ret\n"
	".endm\n"
	".text\n.globl zoo_spin, zoo_spin_loop, zoo_spin_end, zoo_futex\n"
	".type zoo_spin, @function\nzoo_spin:\n.cfi_startproc\n ENTER\n"
	"zoo_spin_loop: incq (%rdx)\n dec %rcx\n jnz zoo_spin_loop\n"
	"zoo_spin_end:\n LEAVE_\n.cfi_endproc\n.size zoo_spin, .-zoo_spin\n"
	".type zoo_futex, @function\nzoo_futex:\n.cfi_startproc\n ENTER\n"
	" mov %rsi, %r9\n mov %rdx, %rdi\n xor %esi, %esi\n mov %rcx, %rdx\n xor %r10d, %r10d\n mov $202, %eax\n syscall\n"
	" mov %r9, %rsi\n LEAVE_\n.cfi_endproc\n.size zoo_futex, .-zoo_futex\n");
#elif defined(__aarch64__)
__asm__(
	".macro EACH op, base\n"
	" add x10, \\base, 40\n"
	" .irp i,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
	"  \\op q\\i, [x10, 32*\\i]\n"
	" .endr\n"
	".endm\n"
	".macro GENERAL pair, single, base\n"
	" \\pair x19, x20, [\\base]\n \\pair x21, x22, [\\base, 16]\n \\single x23, [\\base, 32]\n"
	".endm\n"
	".text\n.globl zoo_spin, zoo_spin_loop, zoo_spin_end\n"
	".type zoo_spin, %function\nzoo_spin:\n.cfi_startproc\n"
	" stp x29, x30, [sp, -128]!\n .cfi_adjust_cfa_offset 128\n .cfi_rel_offset x29, 0\n .cfi_rel_offset x30, 8\n"
	" mov x29, sp\n"
	" stp x19, x20, [sp, 16]\n stp x21, x22, [sp, 32]\n str x23, [sp, 48]\n"
	" stp d8, d9, [sp, 64]\n stp d10, d11, [sp, 80]\n stp d12, d13, [sp, 96]\n stp d14, d15, [sp, 112]\n"
	" GENERAL ldp, ldr, x0\n EACH ldr, x0\n"
	"zoo_spin_loop: ldr x9, [x2]\n add x9, x9, 1\n str x9, [x2]\n subs x3, x3, 1\n b.ne zoo_spin_loop\n"
	"zoo_spin_end: GENERAL stp, str, x1\n EACH str, x1\n"
	" ldp d14, d15, [sp, 112]\n ldp d12, d13, [sp, 96]\n ldp d10, d11, [sp, 80]\n ldp d8, d9, [sp, 64]\n"
	" ldr x23, [sp, 48]\n ldp x21, x22, [sp, 32]\n ldp x19, x20, [sp, 16]\n"
	" ldp x29, x30, [sp], 128\n .cfi_adjust_cfa_offset -128\n .cfi_restore x29\n .cfi_restore x30\n"
	" ret\n.cfi_endproc\n.size zoo_spin, .-zoo_spin\n");
#else
__asm__(
	".macro EACH op, base, reg, first\n"
	" .irp i,0,1,2,3,4,5,6,7\n"
	"  .if \\first\n  \\op 32*\\i+12(\\base), %\\reg\\i\n  .else\n  \\op %\\reg\\i, 32*\\i+12(\\base)\n  .endif\n"
	" .endr\n"
	".endm\n"
	".macro SAVE r\n push %\\r\n .cfi_adjust_cfa_offset 4\n .cfi_rel_offset \\r, 0\n.endm\n"
	".macro BACK r\n pop %\\r\n .cfi_adjust_cfa_offset -4\n .cfi_restore \\r\n.endm\n"
	".text\n.globl zoo_spin, zoo_spin_loop, zoo_spin_end\n"
	".type zoo_spin, @function\nzoo_spin:\n.cfi_startproc\n"
	" SAVE ebx\n SAVE esi\n SAVE edi\n" // arguments now begin at 16(%esp)
	" mov 16(%esp), %eax\n mov 24(%esp), %edx\n mov 28(%esp), %ecx\n"
	" mov (%eax), %ebx\n mov 4(%eax), %esi\n mov 8(%eax), %edi\n"
	" cmpl $0, 32(%esp)\n je 1f\n EACH vmovdqu, %eax, ymm, 1\n jmp 2f\n1: EACH movdqu, %eax, xmm, 1\n2:\n"
	"zoo_spin_loop: incl (%edx)\n dec %ecx\n jnz zoo_spin_loop\n"
	"zoo_spin_end: mov 20(%esp), %eax\n"
	" mov %ebx, (%eax)\n mov %esi, 4(%eax)\n mov %edi, 8(%eax)\n"
	" cmpl $0, 32(%esp)\n je 1f\n EACH vmovdqu, %eax, ymm, 0\n vzeroupper\n jmp 2f\n1: EACH movdqu, %eax, xmm, 0\n2:\n"
	" BACK edi\n BACK esi\n BACK ebx\n ret\n.cfi_endproc\n.size zoo_spin, .-zoo_spin\n");
#endif

static struct registers known;
static int avx;
static volatile unsigned long spins;
static unsigned long spin_mismatches, futex_mismatches, futex_wakes, returns;
static uint32_t futex_word;

#if defined(__aarch64__)
static const char *narrow = "q", *wide = "";
static int has_avx(void) { return 0; }
#else
static const char *narrow = "xmm", *wide = "ymm";
static int has_avx(void) {
	__builtin_cpu_init();
	return __builtin_cpu_supports("avx") != 0;
}
#endif

static void init_registers(void) {
	for (int i = 0; i < GPRS; i++) known.gpr[i] = (unsigned long)mix(stamp + 1000 + i);
	for (int i = 0; i < VECTORS; i++)
		for (int k = 0; k < 4; k++) {
			uint64_t v = mix(stamp + 2000 + 4 * i + k);
			memcpy(&known.vector[i][8 * k], &v, 8);
		}
	avx = has_avx();
	int width = avx ? 32 : 16;
	for (int i = 0; i < VECTORS; i++) memset(&known.vector[i][width], 0, 32 - width);
	for (int i = 0; i < GPRS; i++) say("reg %s 0x%lx", gpr_names[i], known.gpr[i]);
	for (int i = 0; i < VECTORS; i++) {
		char hex[65];
		for (int k = 0; k < width; k++) sprintf(hex + 2 * k, "%02x", known.vector[i][k]);
		say("reg %s%d %s", avx ? wide : narrow, i, hex);
	}
	say("vector %d", width);
	say("spinloop %p %p", (void *)zoo_spin_loop, (void *)zoo_spin_end);
}

// ---- threads ----

static char data_needle[32] __attribute__((aligned(16))) = "to be overwritten";
static const char rodata_needle[32] __attribute__((aligned(16))) = "procmem zoo: .rodata: 0123456";
static char bss_needle[32] __attribute__((aligned(16)));
static __thread char tls_needle[32] __attribute__((aligned(16)));

static int pipe_fds[2];

static void block_futex(struct thread *t) {
	settle(t);
	for (;;) {
		uint32_t val = load(&futex_word);
#if defined(__x86_64__)
		struct registers out = {0};
		long r = zoo_futex(&known, &out, &futex_word, val, avx);
		if (memcmp(&out, &known, sizeof out)) add(&futex_mismatches, 1);
		errno = r < 0 ? -r : 0;
#else
		long r = futex(&futex_word, OP_FUTEX_WAIT, val);
#endif
		if (r < 0 && errno != EAGAIN) add(&returns, 1);
		if (load(&futex_word) != val) add(&futex_wakes, 1);
		else if (r == 0) add(&returns, 1);
	}
}

static void block_nanosleep(struct thread *t) {
	struct timespec ts = {1000000, 0};
	settle(t);
	for (;;) nanosleep(&ts, NULL), add(&returns, 1);
}

static void block_poll(struct thread *t) {
	struct pollfd p = {pipe_fds[0], POLLIN, 0};
	settle(t);
	for (;;) poll(&p, 1, -1), add(&returns, 1);
}

static void block_read(struct thread *t) {
	char c;
	settle(t);
	for (;;) (void)!read(pipe_fds[0], &c, 1), add(&returns, 1);
}

static void block_epoll(struct thread *t) {
	int fd = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event e = {.events = EPOLLIN};
	if (fd < 0 || epoll_ctl(fd, EPOLL_CTL_ADD, pipe_fds[0], &e)) die("epoll");
	settle(t);
	for (;;) epoll_wait(fd, &e, 1, -1), add(&returns, 1);
}

static int no_spin;

static void spin(struct thread *t) {
	if (no_spin) {
		settle(t);
		for (;;) poll(NULL, 0, -1), add(&returns, 1);
	}
	for (;;) {
		struct registers out = {0};
		zoo_spin(&known, &out, &spins, 10000000, avx);
		if (memcmp(&out, &known, sizeof out)) add(&spin_mismatches, 1);
	}
}

static void block_sigsuspend(struct thread *t) {
	sigset_t all;
	sigfillset(&all);
	settle(t);
	for (;;) sigsuspend(&all), add(&returns, 1);
}

static void block_nothing(struct thread *t) {
	uint32_t word = 0;
	settle(t);
	for (;;) futex(&word, OP_FUTEX_WAIT, 0), add(&returns, 1);
}

#define LEVEL(n, next) \
	__attribute__((noinline)) int zoo_level_##n(struct thread *t, int v) { \
		volatile int local = v + n; \
		int r = next(t, local); \
		return r + local; \
	}
__attribute__((noinline)) int zoo_bottom(struct thread *t, int v) {
	block_nothing(t);
	return v;
}
LEVEL(9, zoo_bottom) LEVEL(8, zoo_level_9) LEVEL(7, zoo_level_8) LEVEL(6, zoo_level_7) LEVEL(5, zoo_level_6)
LEVEL(4, zoo_level_5) LEVEL(3, zoo_level_4) LEVEL(2, zoo_level_3) LEVEL(1, zoo_level_2) LEVEL(0, zoo_level_1)

static void recurse(struct thread *t) { zoo_level_0(t, 1); }

static const struct {
	const char *place;
	void (*run)(struct thread *);
} places[] = {{"futex", block_futex}, {"nanosleep", block_nanosleep}, {"poll", block_poll}, {"read", block_read},
	{"epoll", block_epoll}, {"spin", spin}, {"sigsuspend", block_sigsuspend}, {"recursion", recurse}};
#define THREADS 8
static struct thread threads[THREADS];

static void thread_body(struct thread *t) {
	char stack_needle[32] __attribute__((aligned(16)));
	plant("stack", t->index, stack_needle);
	plant("tls", t->index, tls_needle);
	places[t->index - 1].run(t);
	__asm__ volatile("" ::"r"(stack_needle) : "memory");
}

static void start_threads(void) {
	if (pipe2(pipe_fds, O_CLOEXEC)) die("pipe");
	no_spin = opt("--nospin", 0) != NULL;
	for (int i = 0; i < THREADS; i++) {
		struct thread *t = &threads[i];
		*t = (struct thread){.run = thread_body, .index = i + 1};
		sprintf(t->name, "zoo-%d", i + 1);
		start(t, NULL);
		if (places[i].run == spin && !no_spin)
			while (spins == 0) sleep_ns(100000);
		else wait_blocked(t);
		say("thread %s %d %s", t->name, t->tid, places[i].place);
	}
	say("levels 10");
}

// ---- mappings ----

struct map {
	const char *name;
	char *addr;
	size_t len;
} maps[64];
static int map_count;

static int listed(const char *list, const char *name) {
	size_t n = strlen(name);
	for (const char *p = list; (p = strstr(p, name)); p += n)
		if ((p == list || p[-1] == ',') && (p[n] == 0 || p[n] == ',')) return 1;
	return 0;
}

static const char *only, *without;

static int wanted(const char *name) { return (!only || listed(only, name)) && (!without || !listed(without, name)); }

// place finds room with a free page on each side, so that no two of our
// mappings become one.
static char *place(size_t len, size_t align) {
	size_t room = len + align + 2 * PAGE;
	char *p = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) die("mmap");
	munmap(p, room);
	return (char *)(((uintptr_t)p + PAGE + align - 1) & ~(align - 1));
}

static void missing(const char *name) { say("no %s %s", name, strerror(errno)); }

static char *map_align(const char *name, size_t len, size_t align, int prot, int flags, int fd) {
	char *p = mmap(place(len, align), len, prot, flags | MAP_FIXED, fd, 0);
	if (p == MAP_FAILED) missing(name);
	return p == MAP_FAILED ? NULL : p;
}

static char *map(const char *name, size_t pages, int prot, int flags, int fd) {
	return map_align(name, pages * PAGE, PAGE, prot, flags, fd);
}

#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW (PROT_READ | PROT_WRITE)

// announce tells of a mapping. kind is what an unstamped page holds (anon:
// zeros; file:SIZE: the file), stamped lists the stamped pages ("0,4-7"), or "-".
static void announce(const char *name, char *p, size_t len, const char *kind, const char *stamped) {
	say("map %s %p %zu %s %s", name, p, len, kind, stamped);
	maps[map_count++] = (struct map){name, p, len};
}

// stamp_pages stamps the pages of a list.
static void stamp_pages(char *p, const char *list) {
	for (const char *s = list; *s && *s != '-';) {
		char *end;
		size_t first = strtoul(s, &end, 10), last = first;
		if (*end == '-') last = strtoul(end + 1, &end, 10);
		for (; first <= last; first++) stamp_page(p + first * PAGE);
		s = *end == ',' ? end + 1 : end;
	}
}

static void anon(const char *name, size_t pages, const char *stamped, int advice) {
	if (!wanted(name)) return;
	char *p = map(name, pages, RW, ANON, -1);
	if (!p) return;
	if (advice && madvise(p, pages * PAGE, advice)) {
		missing(name);
		munmap(p, pages * PAGE);
		return;
	}
	stamp_pages(p, stamped);
	announce(name, p, pages * PAGE, "anon", stamped);
}

static void protected(const char *name, const char *stamped, int prot) {
	if (!wanted(name)) return;
	char *p = map(name, 4, RW, ANON, -1);
	if (!p) return;
	stamp_pages(p, stamped);
	if (mprotect(p, 4 * PAGE, prot)) die("mprotect");
	announce(name, p, 4 * PAGE, "anon", stamped);
}

// make_file makes a file in the working directory; its 8-byte words hold
// 0xf11e000000000000 plus their offset.
static int make_file(const char *name, size_t size) {
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0) die(name);
	for (size_t at = 0; at < size; at += 8) {
		uint64_t w = 0xf11e000000000000ull + at;
		size_t n = size - at < 8 ? size - at : 8;
		if (pwrite(fd, &w, n, at) != (ssize_t)n) die("write");
	}
	return fd;
}

static void announce_path(const char *name, const char *file) {
	char dir[2048], quoted[1024], *q = quoted;
	if (!getcwd(dir, sizeof dir)) die("getcwd");
	for (; *file; file++)
		if (*file == '\n') *q++ = '\\', *q++ = 'n';
		else *q++ = *file;
	*q = 0;
	say("path %s \"%s/%s\"", name, dir, quoted);
}

static void file(const char *name, const char *filename, size_t size, size_t pages, int flags, const char *stamped) {
	if (!wanted(name)) return;
	int fd = make_file(filename, size);
	char *p = map(name, pages, RW, flags, fd), kind[32];
	close(fd);
	if (!p) return;
	stamp_pages(p, stamped);
	sprintf(kind, "file:%zu", size);
	announce_path(name, filename);
	announce(name, p, pages * PAGE, kind, stamped);
}

static void memfd(size_t size) {
	if (!wanted("memfd")) return;
	int fd = memfd_create("zoo-memfd", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, size)) return missing("memfd");
	char *p = map("memfd", size / PAGE, RW, MAP_SHARED, fd), stamped[64];
	close(fd);
	if (!p) return;
	sprintf(stamped, "0,%lu,%lu", size / PAGE / 2, size / PAGE - 1);
	stamp_pages(p, stamped);
	announce("memfd", p, size, "anon", stamped);
}

static void large(void) {
	if (wanted("huge")) {
		char *p = map_align("huge", 2 << 20, 2 << 20, RW, ANON | MAP_HUGETLB, -1);
		if (p) stamp_pages(p, "0,100-200"), announce("huge", p, 2 << 20, "anon", "0,100-200");
	}
	if (wanted("thp")) {
		char *p = map_align("thp", 4 << 20, 2 << 20, RW, ANON, -1);
		if (!p) return;
		if (madvise(p, 4 << 20, MADV_HUGEPAGE)) return missing("thp");
		stamp_pages(p, "0-511,600");
		announce("thp", p, 4 << 20, "anon", "0-511,600");
	}
}

static void guard(void) {
	if (!wanted("guard")) return;
	char *p = map("guard", 5, RW, ANON, -1);
	if (!p) return;
	stamp_pages(p, "0-1,3-4");
	if (madvise(p + 2 * PAGE, PAGE, 102 /* MADV_GUARD_INSTALL, Linux 6.13 */)) {
		munmap(p, 5 * PAGE);
		return missing("guard");
	}
	announce("guard", p, 5 * PAGE, "anon", "0-1,3-4");
}

static void secret(void) {
	if (!wanted("secret")) return;
	int fd = syscall(447 /* memfd_secret, Linux 5.14 */, 0);
	if (fd < 0 || ftruncate(fd, 2 * PAGE)) return missing("secret");
	char *p = map("secret", 2, RW, MAP_SHARED, fd);
	close(fd);
	if (!p) return;
	stamp_pages(p, "0-1");
	announce("secret", p, 2 * PAGE, "anon", "0-1");
}

// uffd: page 0 is there, the others are missing and nobody will ever fill them.
static void uffd(void) {
	if (!wanted("uffd")) return;
	struct { uint64_t api, features, ioctls; } api = {0xaa, 0, 0};
	struct { uint64_t start, len, mode, ioctls; } reg = {0, 4 * PAGE, 1 /* missing */, 0};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC), user = fd < 0;
	if (user) fd = syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* UFFD_USER_MODE_ONLY */);
	if (fd < 0 || ioctl(fd, _IOWR(0xaa, 0x3f, char[24]), &api)) return missing("uffd");
	char *p = map("uffd", 4, RW, ANON, -1);
	if (!p) return;
	stamp_pages(p, "0");
	reg.start = (uintptr_t)p;
	if (ioctl(fd, _IOWR(0xaa, 0, char[32]), &reg)) return missing("uffd");
	say("uffdmode %s", user ? "user" : "full");
	announce("uffd", p, 4 * PAGE, "anon", "0");
}

#include "kinds.h"

static void make_mappings(void) {
	only = opt("--only", 1), without = opt("--without", 1);
	size_t untouched = size_opt("--untouched", 16 << 20), none = size_opt("--none", 64 << 20);
	size_t sparse = size_opt("--memfd", 256 << 20);
	rings(); // where the kernel puts them, which must not be beside another
	anon("anon", 16, "0-7,9,15", 0);
	anon("dontdump", 4, "0-3", MADV_DONTDUMP);
	anon("dontfork", 4, "0-3", MADV_DONTFORK);
	anon("wipeonfork", 4, "0-3", 18 /* MADV_WIPEONFORK, Linux 4.14 */);
	anon("untouched", untouched / PAGE, "-", 0);
	if (wanted("zeropage")) { // read, never written
		char *p = map("zeropage", 8, RW, ANON, -1);
		for (int i = 0; i < 4; i++) (void)((volatile char *)p)[i * PAGE];
		announce("zeropage", p, 8 * PAGE, "anon", "-");
	}
	if (wanted("none")) {
		char *p = map("none", none / PAGE, PROT_NONE, ANON | MAP_NORESERVE, -1);
		if (p) announce("none", p, none, "anon", "-");
	}
	if (wanted("shared")) {
		char *p = map("shared", 64, RW, MAP_SHARED | MAP_ANONYMOUS, -1);
		if (p) stamp_pages(p, "0-1,10"), announce("shared", p, 64 * PAGE, "anon", "0-1,10");
	}
	protected("nonetouched", "0,2-3", PROT_NONE);
	protected("readonly", "0-3", PROT_READ);
	protected("writeonly", "0-3", PROT_WRITE);
	protected("execonly", "0-3", PROT_EXEC);
	file("file", "private-file", 8 * PAGE, 8, MAP_PRIVATE, "2");
	file("fileshared", "shared-file", 8 * PAGE, 8, MAP_SHARED, "1");
	file("eof", "short-file", PAGE + 100, 3, MAP_PRIVATE, "-");
	file("newline", "new\nline and space", 2 * PAGE, 2, MAP_PRIVATE, "1");
	memfd(sparse);
	large();
	guard();
	secret();
	uffd();
	make_rare_mappings();
}

// ---- commands ----

static struct map *find(const char *name) {
	for (int i = 0; i < map_count; i++)
		if (!strcmp(maps[i].name, name)) return &maps[i];
	return NULL;
}

static int protection(const char *s) {
	return (strchr(s, 'r') ? PROT_READ : 0) | (strchr(s, 'w') ? PROT_WRITE : 0) | (strchr(s, 'x') ? PROT_EXEC : 0);
}

// on_map does COMMAND NAME [FIRST [COUNT]], pages of a mapping (all by default).
static int on_map(int argc, char **argv) {
	struct map *m = argc > 1 ? find(argv[1]) : NULL;
	if (!m) return 0;
	const char *what = argv[0];
	if (!strcmp(what, "protect") && argc == 3) {
		answer(mprotect(m->addr, m->len, protection(argv[2])));
		return 1;
	}
	if (!strcmp(what, "move")) {
		char *to = mremap(m->addr, m->len, m->len, MREMAP_MAYMOVE | MREMAP_FIXED, place(m->len, PAGE));
		if (to == MAP_FAILED) return answer(1), 1;
		m->addr = to;
		say("ok %p", to);
		return 1;
	}
	if (!strcmp(what, "cover") && argc == 3) { // another mapping, whose place it takes
		struct map *to = find(argv[2]);
		answer(!to || m->len != to->len || mremap(m->addr, m->len, m->len, MREMAP_MAYMOVE | MREMAP_FIXED, to->addr) == MAP_FAILED);
		return 1;
	}
	if (!strcmp(what, "alias") && argc == 3 && map_count < 64) { // the same shared memory once more
		char *p = mremap(m->addr, 0, m->len, MREMAP_MAYMOVE | MREMAP_FIXED, place(m->len, PAGE));
		if (p == MAP_FAILED) return answer(1), 1;
		maps[map_count++] = (struct map){strdup(argv[2]), p, m->len};
		say("ok %p", p);
		return 1;
	}
	static int opened = -1; // for pwrite
	if (!strcmp(what, "open")) {
		char path[64];
		sprintf(path, "/proc/self/map_files/%lx-%lx", (long)m->addr, (long)(m->addr + m->len));
		return answer((opened = open(path, O_RDWR)) < 0), 1;
	}
	size_t first = argc > 2 ? strtoul(argv[2], NULL, 0) : 0;
	if (!strcmp(what, "pwrite")) { // by a system call, bytes that are no stamp
		static char page[PAGE] = "by a system call";
		return answer(pwrite(opened, page, PAGE, first * PAGE) != PAGE), 1;
	}
	if (!strcmp(what, "grow")) { // in place, what is mapped up to a page; behind it nothing is
		answer(first * PAGE >= m->len || mremap(m->addr, first * PAGE, m->len, 0) != m->addr);
		return 1;
	}
	size_t count = argc > 3 ? strtoul(argv[3], NULL, 0) : argc > 2 ? 1 : m->len / PAGE;
	if (first > m->len / PAGE || count > m->len / PAGE - first) return errno = ERANGE, answer(1), 1;
	char *p = m->addr + first * PAGE;
	size_t len = count * PAGE;
	if (!strcmp(what, "touch")) {
		for (size_t i = 0; i < count; i++) stamp_page(p + i * PAGE);
		answer(0);
	} else if (!strcmp(what, "zero")) answer((memset(p, 0, len), 0));
	else if (!strcmp(what, "drop")) answer(madvise(p, len, MADV_DONTNEED));
	else if (!strcmp(what, "droppeek")) { // drop, and read
		int failed = madvise(p, len, MADV_DONTNEED);
		for (size_t i = 0; i < count; i++) (void)((volatile char *)p)[i * PAGE];
		answer(failed);
	} else if (!strcmp(what, "merge")) // map anew, and have it merged with its neighbours later
		answer(munmap(p, len) || mmap(p, len, PROT_NONE, ANON | MAP_FIXED, -1, 0) == MAP_FAILED || mprotect(p, len, RW));
	else if (!strcmp(what, "same")) answer((memset(p, 'S', len), 0)); // as other pages
	else if (!strcmp(what, "mergeable")) answer(madvise(p, len, MADV_MERGEABLE));
	else if (!strcmp(what, "punch")) answer(madvise(p, len, MADV_REMOVE));
	else if (!strcmp(what, "unmap")) answer(munmap(p, len));
	else if (!strcmp(what, "remap")) answer(munmap(p, len) || mmap(p, len, RW, ANON | MAP_FIXED, -1, 0) == MAP_FAILED);
	else return 0;
	return 1;
}

static int handle(int argc, char **argv) {
	if (!strcmp(argv[0], "add") && argc == 3) { // a new mapping, all of it stamped
		size_t pages = size_of(argv[2]) / PAGE;
		char *p = map_count < 64 ? mmap(place(pages * PAGE, pages * PAGE >= (2 << 20) ? 2 << 20 : PAGE), pages * PAGE, RW, ANON | MAP_FIXED, -1, 0) : MAP_FAILED;
		if (p == MAP_FAILED) return answer(1), 1;
		madvise(p, pages * PAGE, MADV_NOHUGEPAGE); // with page tables of its own
		for (size_t i = 0; i < pages; i++) stamp_page(p + i * PAGE);
		maps[map_count++] = (struct map){strdup(argv[1]), p, pages * PAGE};
		say("ok %p", p);
	} else if (!strcmp(argv[0], "wake")) { // the thread in futex
		unsigned long before = load(&futex_wakes);
		add(&futex_word, 1);
		while (load(&futex_wakes) == before) futex(&futex_word, OP_FUTEX_WAKE, 1), sleep_ns(100000);
		wait_blocked(&threads[0]);
		say("wake %lu %lu", load(&futex_wakes), load(&futex_mismatches));
	} else if (!strcmp(argv[0], "spin")) say("spin %lu %lu", spins, load(&spin_mismatches));
	else if (!strcmp(argv[0], "returns")) say("returns %lu", load(&returns));
	else return on_map(argc, argv);
	return 1;
}

int main(int argc, char **argv) {
	init(argc, argv);
	init_registers();
	plant("data", 0, data_needle);
	plant("bss", 0, bss_needle);
	plant("heap", 0, malloc(NEEDLE));
	announce_needle("rodata", 0, rodata_needle);
	char stack_needle[32] __attribute__((aligned(16)));
	plant("stack", 0, stack_needle);
	plant("tls", 0, tls_needle);
	make_mappings();
	start_threads();
	__asm__ volatile("" ::"r"(stack_needle) : "memory");
	ready(handle);
}
