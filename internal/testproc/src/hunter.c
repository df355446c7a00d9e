// hunter: a process that looks for what others put into it.
#include "helper.h"
#include <sched.h>
#include <sys/ioctl.h>

static struct {
	uint32_t looks, forked, listed, shared, waited;
} *seen; // shared with all children

// holds reports whether this process's table of files has a userfaultfd.
static int holds(void) {
	char path[32], link[64];
	for (int fd = 0; fd < 64; fd++) {
		snprintf(path, sizeof path, "/proc/thread-self/fd/%d", fd);
		ssize_t n = readlink(path, link, sizeof link - 1);
		if (n > 0 && (link[n] = 0, strstr(link, "userfaultfd"))) return 1;
	}
	return 0;
}

static void forks(struct thread *t) {
	settle(t);
	for (;;) {
		pid_t child = fork();
		if (child == 0) {
			if (holds()) add(&seen->forked, 1);
			_exit(0);
		}
		int status;
		if (child > 0) waitpid(child, &status, 0);
		add(&seen->looks, 1);
	}
}

static void lists(struct thread *t) {
	settle(t);
	for (;; add(&seen->looks, 1))
		if (holds()) add(&seen->listed, 1);
}

// waits looks for children that send no SIGCHLD, of which this process has none.
static void waits(struct thread *t) {
	settle(t);
	for (;; add(&seen->looks, 1)) {
		siginfo_t info;
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | 0x80000000 /* __WCLONE */) == 0 || errno != ECHILD)
			add(&seen->waited, 1);
		sched_yield();
	}
}

// share makes a process that shares the table of files, and looks at it.
static void share(void) {
	pid_t child = syscall(SYS_clone, 0x400 /* CLONE_FILES */ | SIGCHLD, 0, 0, 0, 0);
	if (child < 0) die("clone");
	if (child > 0) return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;; add(&seen->looks, 1))
		if (holds()) add(&seen->shared, 1);
}

#ifdef __x86_64__
__asm__(".pushsection .text\n"
	"gadget_other: mov $37, %eax\n mov $1000, %edi\n syscall\n ret\n" // alarm(1000)
	"gadget_int80: int $0x80\n ret\n"
	"gadget_spin: jmp gadget_spin\n"
	".popsection");
extern char gadget_other[], gadget_int80[], gadget_spin[];

static void announce_gadgets(void) {
	say("gadget-other %p", gadget_other);
	say("gadget-int80 %p", gadget_int80);
	say("gadget-spin %p", gadget_spin);
}
#elif defined(__aarch64__)
__asm__(".pushsection .text\n.balign 8\n"
	"gadget_other: mov x8, 103\n mov x0, 0\n adr x1, 1f\n mov x2, 0\n svc 0\n ret\n" // setitimer(ITIMER_REAL, 1000 s)
	"1: .quad 0, 0, 1000, 0\n"
	"gadget_spin: b gadget_spin\n"
	".popsection");
#pragma GCC visibility push(hidden)
extern char gadget_other[], gadget_spin[];
#pragma GCC visibility pop

static void announce_gadgets(void) {
	say("gadget-other %p", gadget_other);
	say("gadget-spin %p", gadget_spin);
}
#else
static void announce_gadgets(void) {}
#endif

static int handle(int argc, char **argv) {
	(void)argc;
	if (!strcmp(argv[0], "seen"))
		say("seen %u %u %u %u %u", load(&seen->looks), load(&seen->forked), load(&seen->listed), load(&seen->shared), load(&seen->waited));
	else if (!strcmp(argv[0], "alarm")) say("alarm %u", alarm(0));
	else return 0;
	return 1;
}

// serves answers in a thread whose table of files is its own: the numbers that are
// next in it are those of other files in that of the process.
static void serves(struct thread *t) {
	if (unshare(CLONE_FILES)) die("unshare");
	settle(t);
	while (!load(&t->index)) sleep_ns(100000);
	ready(handle);
}

// hides makes a userfaultfd that tells of forks, of which nobody reads, in a table of
// files of its own.
static void hides(struct thread *t) {
	if (unshare(CLONE_FILES)) die("unshare");
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	uint64_t api[3] = {0xaa, 1 << 1 /* UFFD_FEATURE_EVENT_FORK */};
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t reg[4] = {(uintptr_t)p, PAGE, 1 /* UFFDIO_REGISTER_MODE_MISSING */};
	if (fd < 0 || ioctl(fd, _IOWR(0xaa, 0x3f, api), api) || ioctl(fd, _IOWR(0xaa, 0, reg), reg)) die("userfaultfd");
	settle(t);
	for (;;) pause();
}

int main(int argc, char **argv) {
	init(argc, argv);
	seen = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (seen == MAP_FAILED) die("mmap");
	announce_gadgets();
	static struct thread threads[] = {{.name = "forks", .run = forks}, {.name = "lists", .run = lists}, {.name = "waits", .run = waits}};
	static struct thread hider = {.name = "hides", .run = hides};
	static struct thread server = {.name = "serves", .run = serves};
	if (opt("--hunt", 0)) {
		share();
		for (int i = 0; i < 3; i++) start(&threads[i], NULL), wait_settled(&threads[i]);
	}
	if (opt("--forkevents", 0)) start(&hider, NULL), wait_settled(&hider);
	if (opt("--tables", 0)) {
		start(&server, NULL), wait_settled(&server);
		for (int i = 0; i < 32; i++) open("/dev/null", O_RDONLY);
		store(&server.index, 1);
		for (;;) {} // this thread is in no system call
	}
	ready(handle);
}
