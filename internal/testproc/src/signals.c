// signals: counts the signals that it gets, and the interruptions that it
// should not have got.
#include "helper.h"

#define REALTIME 8
static int64_t usr1, realtime[REALTIME], sum, spurious;
static __thread volatile int handled; // by this thread
static int pipe_fds[2];

static void on_signal(int sig, siginfo_t *info, void *context) {
	(void)context;
	int saved = errno;
	handled++;
	if (sig == SIGUSR1) add(&usr1, 1);
	else add(&realtime[sig - SIGRTMIN], 1), add(&sum, (int64_t)info->si_value.sival_int);
	errno = saved;
}

static void unblock(void) {
	sigset_t none;
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
}

// in_sleep: nanosleep is interrupted by a handler, and by nothing else.
static void in_sleep(struct thread *t) {
	struct timespec ts = {1000000, 0};
	unblock();
	settle(t);
	for (;;) {
		int before = handled;
		nanosleep(&ts, NULL);
		if (handled == before) add(&spurious, 1);
	}
}

// in_read: the handlers have SA_RESTART, so read never returns.
static void in_read(struct thread *t) {
	char c;
	unblock();
	settle(t);
	for (;;) (void)!read(pipe_fds[0], &c, 1), add(&spurious, 1);
}

static void in_loop(struct thread *t) {
	unblock();
	settle(t);
	for (volatile uint64_t n = 0;; n++) {}
}

// send sends COUNT signals with the values 1 to COUNT, from a child, to the
// process or to one thread.
static pid_t send_signals(int sig, int n, pid_t tid) {
	pid_t parent = getpid(), child = fork();
	if (child) return child;
	for (int i = 1; i <= n && getppid() == parent;) {
		siginfo_t info;
		memset(&info, 0, sizeof info);
		info.si_code = SI_QUEUE, info.si_pid = getpid(), info.si_uid = getuid(), info.si_value.sival_int = i;
		int r = tid ? syscall(SYS_rt_tgsigqueueinfo, parent, tid, sig, &info) : syscall(SYS_rt_sigqueueinfo, parent, sig, &info);
		if (r == 0) i++;
		else if (errno == EAGAIN) sleep_ns(100000); // the queue is full
		else break;
	}
	_exit(0);
}

static int handle(int argc, char **argv) {
	if (!strcmp(argv[0], "counts")) {
		char line[512];
		int n = sprintf(line, "counts %lld", (long long)load(&usr1));
		for (int i = 0; i < REALTIME; i++) n += sprintf(line + n, " %lld", (long long)load(&realtime[i]));
		say("%s %lld %lld", line, (long long)load(&sum), (long long)load(&spurious));
	} else if (!strcmp(argv[0], "send") && argc >= 3) { // send usr1|rt0..rt7 COUNT [TID]
		int rt = strncmp(argv[1], "rt", 2) ? -1 : atoi(argv[1] + 2);
		if (rt >= REALTIME) return 0;
		pid_t child = send_signals(rt < 0 ? SIGUSR1 : SIGRTMIN + rt, atoi(argv[2]), argc > 3 ? atoi(argv[3]) : 0);
		if (child < 0) answer(1);
		else say("ok %d", child);
	} else return 0;
	return 1;
}

int main(int argc, char **argv) {
	static struct thread threads[] = {
		{.name = "sig-sleep", .run = in_sleep}, {.name = "sig-read", .run = in_read}, {.name = "sig-loop", .run = in_loop}};
	init(argc, argv);
	if (pipe2(pipe_fds, O_CLOEXEC)) die("pipe");
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
	sigfillset(&sa.sa_mask);
	sigaction(SIGUSR1, &sa, NULL);
	for (int i = 0; i < REALTIME; i++) sigaction(SIGRTMIN + i, &sa, NULL);
	signal(SIGCHLD, SIG_IGN); // children are reaped by the kernel
	sigset_t ours = sa.sa_mask;
	pthread_sigmask(SIG_SETMASK, &ours, NULL); // the main thread gets none
	int n = opt("--noloop", 0) ? 2 : 3;
	for (int i = 0; i < n; i++) {
		start(&threads[i], NULL);
		if (i < 2) wait_blocked(&threads[i]);
		else wait_settled(&threads[i]);
		say("thread %s %d %s", threads[i].name, threads[i].tid, threads[i].name + 4);
	}
	say("rtmin %d", SIGRTMIN);
	say("usr1 %d", SIGUSR1);
	ready(handle);
}
