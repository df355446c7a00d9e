// kids: children, exec, exit, and the states of a process that are hard to
// read or to stop.
#include "helper.h"
#include <sys/epoll.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/uio.h>

// do_frail starts a thread that does not expect EINTR.
static void frail(struct thread *t) {
	struct epoll_event event;
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	settle(t);
	if (epoll_wait(epoll, &event, 1, -1) < 0) _exit(errno == EINTR ? 7 : 1);
}

static void do_frail(void) {
	static struct thread t = {.name = "frail", .run = frail};
	start(&t, NULL);
	wait_blocked(&t);
	say("ok %d", t.tid);
}

static int handle(int argc, char **argv);
static int alive[2]; // children read it, and see its end with this process
static pid_t last_child;

static void wait_for_parent(void) {
	char c;
	close(alive[1]);
	while (read(alive[0], &c, 1) < 0 && errno == EINTR) {}
	_exit(0);
}

// do_fork makes a child that lives as long as this process, or that has ended
// and is not waited for. The child must not keep our stdin and stdout open.
static void do_fork(int end_at_once) {
	pid_t child = fork();
	if (child == 0) {
		if (end_at_once) _exit(0);
		close(0), close(1);
		wait_for_parent();
	}
	if (child < 0) return answer(1);
	if (end_at_once) { // wait for its end, and leave it a zombie
		siginfo_t info;
		waitid(P_PID, child, &info, WEXITED | WNOWAIT);
	}
	last_child = child;
	say("ok %d", child);
}

// do_vfork: the child answers, and takes the next line as its release; until
// then the thread that called vfork is stuck in it.
static void do_vfork(void) {
	static char line[64];
	pid_t child = vfork();
	if (child == 0) {
		say("ok %ld", syscall(SYS_getpid));
		_exit(read_line(line, sizeof line) ? 0 : 1);
	}
	if (child < 0) return answer(1);
	int status;
	waitpid(child, &status, 0);
	if (status) _exit(0); // stdin is closed
	say("ok");
}

// do_trace makes a child that traces this process.
static void do_trace(void) {
	int pipe_fds[2];
	if (pipe(pipe_fds)) return answer(1);
	pid_t parent = getpid(), child = fork();
	if (child == 0) {
		int failed = ptrace(PTRACE_SEIZE, parent, 0, 0) ? errno : 0;
		(void)!write(pipe_fds[1], &failed, sizeof failed);
		close(0), close(1);
		if (!failed) wait_for_parent();
		_exit(1);
	}
	if (child < 0) return answer(1);
	int failed = EIO;
	close(pipe_fds[1]);
	(void)!read(pipe_fds[0], &failed, sizeof failed);
	close(pipe_fds[0]);
	last_child = child;
	errno = failed;
	if (failed) answer(1);
	else say("ok %d", child);
}

// do_seccomp filters all threads: userfaultfd, fork, vfork, and clone without
// CLONE_THREAD kill the process, or fail with EPERM; or this thread alone may
// only read, write, and end. (No kernel headers with musl-gcc, hence the
// numbers.)
static void do_seccomp(const char *what) {
	if (!strcmp(what, "strict")) return answer(prctl(PR_SET_SECCOMP, 1));
#if !defined(SYS_fork) // arm64 has neither
#define SYS_fork 0xffffffffu
#define SYS_vfork 0xffffffffu
#endif
	struct filter { uint16_t code; uint8_t jt, jf; uint32_t k; };
	enum { load_word = 0x20, jump_equal = 0x15, jump_set = 0x45, give = 0x06, ALLOW = 0x7fff0000u };
	uint32_t action = strcmp(what, "errno") ? 0x80000000u /* kill the process */ : 0x00050000u | EPERM;
	struct filter filter[] = {
		{load_word, 0, 0, 0}, // number
		{jump_equal, 6, 0, SYS_userfaultfd},
		{jump_equal, 5, 0, SYS_fork},
		{jump_equal, 4, 0, SYS_vfork},
		{jump_equal, 0, 2, SYS_clone},
		{load_word, 0, 0, 16}, // low half of the first argument
		{jump_set, 0, 1, 0x10000 /* CLONE_THREAD */},
		{give, 0, 0, ALLOW},
		{give, 0, 0, action},
	};
	struct { unsigned short len; struct filter *filter; } prog = {sizeof filter / sizeof *filter, filter};
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	answer(syscall(SYS_seccomp, 1, 1 /* all threads */, &prog));
}

// do_unshare: the children of this thread are to be in a new pid or time
// namespace, or in the pid namespace of another process.
static void do_unshare(const char *what, const char *path) {
	enum { NEWTIME = 0x80, NEWPID = 0x20000000 };
	if (!path) return answer(syscall(SYS_unshare, !strcmp(what, "time") ? NEWTIME : NEWPID));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int failed = fd < 0 || syscall(SYS_setns, fd, NEWPID);
	int saved = errno;
	close(fd);
	errno = saved;
	answer(failed);
}

// do_huge writes to a private huge page for which none is set aside.
static void do_huge(void) {
	static volatile char *page;
	if (!page) page = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | 0x40000 /* MAP_HUGETLB */, -1, 0);
	if (page == MAP_FAILED) return page = NULL, answer(1);
	page[5]++;
	answer(0);
}

static volatile sig_atomic_t children_ended;

static void on_child(int sig) { (void)sig, children_ended++; }

// do_lasting tells what the end of a child may change for good. The first time
// it makes what can be: a semaphore that is undone at the end, a segment of
// memory, a lock on the file "lock", a handler.
static void do_lasting(void) {
	static int sem = -1, shm;
	if (sem < 0) {
		if ((sem = semget(IPC_PRIVATE, 1, 0600)) < 0) return answer(1);
		struct sembuf up = {0, 1, SEM_UNDO};
		semop(sem, &up, 1);
		shm = shmget(IPC_PRIVATE, PAGE, 0600);
		shmat(shm, NULL, 0);
		shmctl(shm, IPC_RMID, NULL); // with the last who has it
		struct flock lock = {.l_type = F_WRLCK};
		fcntl(open("lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600), F_SETLK, &lock);
		signal(SIGCHLD, on_child);
	}
	struct shmid_ds seg;
	if (shmctl(shm, IPC_STAT, &seg)) return answer(1);
	struct rusage use;
	getrusage(RUSAGE_CHILDREN, &use);
	int value = semctl(sem, 0, GETVAL);
	say("ok %d %ld %d %d %ld", value, (long)seg.shm_nattch, seg.shm_lpid == getpid(), (int)children_ended, use.ru_maxrss);
}

static volatile sig_atomic_t enough;

static void on_enough(int sig) { (void)sig, enough = 1; }

// do_compute makes no system call until SIGUSR1 comes.
static void do_compute(void) {
	enough = 0;
	signal(SIGUSR1, on_enough);
	say("ok");
	while (!enough) {}
	say("done");
}

// do_vectors computes with known values in vectors that are longer than 128 bits, in streaming mode
// or not, and makes no system call until SIGUSR1 comes. Then it tells how many values changed.
static void do_vectors(int streaming) {
#if defined(__aarch64__)
	enum { HAS_SVE = 1 << 22, HAS_SME = 1 << 23 }; // AT_HWCAP, AT_HWCAP2
	if (!(getauxval(AT_HWCAP) & HAS_SVE) || (streaming && !(getauxval(AT_HWCAP2) & HAS_SME))) return errno = ENOSYS, answer(1);
	enough = 0;
	signal(SIGUSR1, on_enough);
	say("ok");
	uint64_t changed, size;
	__asm__ volatile(
		".arch_extension sve\n"
		" cbz %w[streaming], 1f\n .inst 0xd503437f\n" // smstart sm
		"1: ptrue p0.b\n index z0.d, #1, #3\n index z31.d, #2, #5\n"
		"2: ldr w9, [%[enough]]\n cbz w9, 2b\n"
		" index z1.d, #1, #3\n index z2.d, #2, #5\n"
		" cmpne p1.d, p0/z, z0.d, z1.d\n cntp %[changed], p0, p1.d\n"
		" cmpne p1.d, p0/z, z31.d, z2.d\n cntp x9, p0, p1.d\n add %[changed], %[changed], x9\n"
		" cntb %[size]\n"
		" cbz %w[streaming], 3f\n .inst 0xd503427f\n" // smstop sm
		"3:\n"
		: [changed] "=&r"(changed), [size] "=&r"(size)
		: [streaming] "r"(streaming), [enough] "r"(&enough)
		: "x9", "memory", "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14",
		  "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");
	say("done %llu %llu", (unsigned long long)changed, (unsigned long long)size);
#else
	(void)streaming;
	errno = ENOSYS;
	answer(1);
#endif
}

static volatile sig_atomic_t handled;

static void on_handled(int sig) { (void)sig, handled++; }

// do_wait waits in one system call, for ms milliseconds if it has a time. It tells the result, how
// often a handler ran, and for how many milliseconds it waited. After the handler of SIGUSR1 a call
// may begin again, after that of SIGUSR2 none.
static void do_wait(const char *call, int ms) {
	static int fds[2];
	uint32_t word = 0;
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000l}, at;
	sigset_t none;
	char c;
	if (!fds[1] && pipe2(fds, O_CLOEXEC)) return answer(1);
	sigemptyset(&none);
	handled = 0;
	sigaction(SIGUSR1, &(struct sigaction){.sa_handler = on_handled, .sa_flags = SA_RESTART}, NULL);
	sigaction(SIGUSR2, &(struct sigaction){.sa_handler = on_handled}, NULL);
	say("ok");
	uint64_t began = now_ns();
	long r = -1;
	errno = ENOSYS;
	if (!strcmp(call, "nanosleep")) r = syscall(SYS_nanosleep, &ts, &ts);
	else if (!strcmp(call, "ppoll")) r = syscall(SYS_ppoll, NULL, 0, &ts, NULL, 8);
	else if (!strcmp(call, "futex-time")) r = syscall(SYS_futex, &word, OP_FUTEX_WAIT, 0, &ts);
	else if (!strcmp(call, "futex")) r = syscall(SYS_futex, &word, OP_FUTEX_WAIT, 0, NULL);
	else if (!strcmp(call, "sigsuspend")) r = syscall(SYS_rt_sigsuspend, &none, 8);
	else if (!strcmp(call, "read")) r = read(fds[0], &c, 1);
	else if (!strcmp(call, "clock_nanosleep")) {
		clock_gettime(CLOCK_MONOTONIC, &at);
		at.tv_sec += ms / 1000 + 1;
		r = syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
		if (r > 0) errno = r, r = -1;
	}
	long result = r < 0 ? -errno : r;
	say("done %ld %d %llu", result, (int)handled, (unsigned long long)((now_ns() - began) / 1000000));
}

// do_auxv has the auxiliary vector that the kernel shows say another address of the
// vDSO. All else of the kernel's record (PR_SET_MM_MAP) stays as it is.
static void do_auxv(uintptr_t address) {
	uintptr_t auxv[128] = {0};
	char stat[1024] = {0};
	unsigned long long f[53] = {0};
	int fd = open("/proc/self/auxv", O_RDONLY | O_CLOEXEC);
	int n = read(fd, auxv, sizeof auxv);
	close(fd);
	for (int i = 0; i < 128; i += 2)
		if (auxv[i] == AT_SYSINFO_EHDR) auxv[i + 1] = address;
	fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	if (n <= 0 || read(fd, stat, sizeof stat - 1) <= 0) return answer(1);
	close(fd);
	char *save, *word = strtok_r(strrchr(stat, ')') + 1, " ", &save);
	for (int i = 3; word && i <= 52; i++, word = strtok_r(NULL, " ", &save)) f[i] = strtoull(word, NULL, 10);
	struct prctl_mm_map map = {.start_code = f[26], .end_code = f[27], .start_stack = f[28], .start_data = f[45],
		.end_data = f[46], .start_brk = f[47], .brk = (uintptr_t)sbrk(0), .arg_start = f[48], .arg_end = f[49],
		.env_start = f[50], .env_end = f[51], .auxv = (void *)auxv, .auxv_size = n, .exe_fd = -1};
	answer(prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0));
}

// do_vdso makes the vDSO writable, which cannot be cut.
static void do_vdso(void) {
	char *at = (char *)getauxval(AT_SYSINFO_EHDR);
	for (int pages = 1; pages < 16; pages++)
		if (!mprotect(at, pages * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC)) return answer(0);
	answer(1);
}

static void park(struct thread *t) {
	uint32_t word = 0;
	settle(t);
	for (;;) futex(&word, OP_FUTEX_WAIT, 0);
}

static void do_threads(int n) {
	struct thread *threads = calloc(n, sizeof *threads);
	for (int i = 0; i < n; i++) {
		threads[i] = (struct thread){.name = "parked", .run = park};
		start(&threads[i], NULL);
		wait_blocked(&threads[i]);
	}
	say("ok %d", n);
}

// slurp reads a file in a thread of its own, all at once or in two pieces; when it
// has, it sets a flag in memory.
struct slurp {
	struct thread thread;
	int fd, pieces;
	char *buffer;
	uint64_t *flag;
};

#define SLURP_SIZE (16 * PAGE)

static void slurp(struct thread *t) {
	struct slurp *s = t->arg;
	const size_t half = SLURP_SIZE / 2;
	settle(t);
	if (s->pieces == 1) {
		(void)!read(s->fd, s->buffer, SLURP_SIZE);
	} else {
		struct iovec iov[2] = {{s->buffer, half}, {s->buffer + half + PAGE, half}};
		(void)!readv(s->fd, iov, 2);
	}
	store(s->flag, 1);
	park(t);
}

static void do_slurp(const char *path, int pieces) {
	struct slurp *s = calloc(1, sizeof *s);
	*s = (struct slurp){.fd = open(path, O_RDONLY | O_CLOEXEC), .pieces = pieces};
	if (s->fd < 0) return answer(1);
	s->buffer = map_kind(NULL, SLURP_SIZE + 2 * PAGE);
	memset(s->buffer, 0x5a, SLURP_SIZE + PAGE);
	s->flag = (uint64_t *)(s->buffer + SLURP_SIZE + PAGE);
	*s->flag = 0;
	s->thread = (struct thread){.name = "slurp", .run = slurp, .arg = s};
	start(&s->thread, NULL);
	wait_settled(&s->thread);
	say("ok %d %llu %lu %llu", load(&s->thread.tid), (unsigned long long)(uintptr_t)s->buffer, SLURP_SIZE, (unsigned long long)(uintptr_t)s->flag);
}

// do_map maps a file: private, shared or text. Its first page is touched.
static void do_map(const char *path, const char *how) {
	int shared = !strcmp(how, "shared"), text = !strcmp(how, "text");
	int fd = open(path, (shared ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (fd < 0) return answer(1);
	off_t size = lseek(fd, 0, SEEK_END);
	char *p = mmap(NULL, size, PROT_READ | (text ? PROT_EXEC : PROT_WRITE), shared ? MAP_SHARED : MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED) return answer(1);
	close(fd);
	if (text) (void)*(volatile char *)p;
	else ++*(volatile char *)p;
	say("ok %llu %llu", (unsigned long long)(uintptr_t)p, (unsigned long long)size);
}

static void after_leader(struct thread *t) {
	while (thread_state(getpid()) != 'Z') sleep_ns(100000);
	say("ok %d", t->tid);
	serve(handle);
}

static void do_exec(struct thread *t) {
	char **argv = t->arg;
	execv(argv[0], argv);
	answer(1);
	serve(handle);
}

static int handle(int argc, char **argv) {
	static struct thread other;
	const char *what = argv[0];
	int n = argc > 1 ? atoi(argv[1]) : 0;
	if (!strcmp(what, "fork")) do_fork(0);
	else if (!strcmp(what, "zombie")) do_fork(1);
	else if (!strcmp(what, "vfork")) do_vfork();
	else if (!strcmp(what, "trace")) do_trace();
	else if (!strcmp(what, "reap") && last_child) kill(last_child, SIGKILL), answer(waitpid(last_child, NULL, 0) < 0);
	else if (!strcmp(what, "threads")) do_threads(n);
	else if (!strcmp(what, "dumpable") && argc == 2) answer(prctl(PR_SET_DUMPABLE, n));
	else if (!strcmp(what, "setuid") && argc == 2) answer(setgid(n) || setuid(n));
	else if (!strcmp(what, "processes") && argc == 2) answer(setrlimit(RLIMIT_NPROC, &(struct rlimit){n, n}));
	else if (!strcmp(what, "files") && argc == 2) answer(setrlimit(RLIMIT_NOFILE, &(struct rlimit){n, n}));
	else if (!strcmp(what, "close") && argc == 2) answer(close((int)n));
	else if (!strcmp(what, "auxv") && argc == 2) do_auxv(strtoull(argv[1], NULL, 0));
	else if (!strcmp(what, "vdso")) do_vdso();
	else if (!strcmp(what, "slurp") && argc == 3) do_slurp(argv[1], atoi(argv[2]));
	else if (!strcmp(what, "map") && argc == 3) do_map(argv[1], argv[2]);
	else if (!strcmp(what, "compute")) do_compute();
	else if (!strcmp(what, "frail")) do_frail();
	else if (!strcmp(what, "vectors") && argc == 2) do_vectors(n);
	else if (!strcmp(what, "wait") && argc == 3) do_wait(argv[1], atoi(argv[2]));
	else if (!strcmp(what, "seccomp") && argc == 2) do_seccomp(argv[1]);
	else if (!strcmp(what, "huge")) do_huge();
	else if (!strcmp(what, "lasting")) do_lasting();
	else if (!strcmp(what, "unshare") && argc > 1) do_unshare(argv[1], argv[2]);
	else if (!strcmp(what, "exec") && argc > 1) execv(argv[1], argv + 1), answer(1);
	else if (!strcmp(what, "threadexec") && argc > 1) { // the main thread waits, and is replaced
		other = (struct thread){.name = "execs", .run = do_exec, .arg = argv + 1};
		start(&other, NULL);
		for (;;) pause();
	} else if (!strcmp(what, "leaderexit")) {
		other = (struct thread){.name = "after-leader", .run = after_leader};
		start(&other, NULL);
		syscall(SYS_exit, 0); // this thread alone
	} else return 0;
	return 1;
}

int main(int argc, char **argv) {
	init(argc, argv);
	if (pipe2(alive, O_CLOEXEC)) die("pipe");
	ready(handle);
}
