// odd: a process with names that are hard to print, to read, or to believe.
#include "helper.h"
#include <sys/stat.h>

static char *unhex(const char *hex) {
	size_t n = strlen(hex) / 2;
	char *s = calloc(1, n + 1);
	for (size_t i = 0; i < n; i++) sscanf(hex + 2 * i, "%2hhx", (unsigned char *)s + i);
	return s;
}

// do_map maps a page of a new file of this name, privately, and keeps its name.
static void do_map(const char *name) {
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, PAGE)) return answer(1);
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED) return answer(1);
	close(fd);
	strcpy(p, "odd page");
	say("ok %p", (void *)p);
}

static void park(struct thread *t) {
	uint32_t word = 0;
	settle(t);
	for (;;) futex(&word, OP_FUTEX_WAIT, 0);
}

// do_thread starts a thread of this name.
static void do_thread(const char *name) {
	struct thread *t = calloc(1, sizeof *t);
	t->run = park;
	snprintf(t->name, sizeof t->name, "%s", name);
	start(t, NULL);
	wait_blocked(t);
	say("ok %d", t->tid);
}

// do_deep executes a program by a path that is longer than any that can be
// opened: folders, each in the other.
static void do_deep(char **argv) {
	char part[201];
	memset(part, 'd', 200), part[200] = 0;
	int from = open(argv[0], O_RDONLY | O_CLOEXEC);
	for (int i = 0; i < atoi(argv[1]); i++)
		if ((mkdir(part, 0755) && errno != EEXIST) || chdir(part)) return answer(1);
	int to = open("program", O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	char buf[1 << 16];
	for (ssize_t n; (n = read(from, buf, sizeof buf)) > 0;)
		if (write(to, buf, n) != n) return answer(1);
	close(to);
	execl("program", "program", NULL);
	answer(1);
}

// do_wait maps a file, of a file system that does not answer.
static void do_wait(const char *path) {
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) return answer(1);
	say("ok");
	mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
}

// do_args has SIZE bytes of untouched memory be the arguments.
static void do_args(size_t size) {
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) return answer(1);
	if (!prctl(PR_SET_MM, PR_SET_MM_ARG_START, p, 0, 0)) return answer(prctl(PR_SET_MM, PR_SET_MM_ARG_END, p + size, 0, 0));
	// Without CAP_SYS_RESOURCE all must be said at once, much of it as it is (proc(5), stat).
	char stat[4096] = "";
	int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	(void)!read(fd, stat, sizeof stat - 1);
	close(fd);
	unsigned long f[53] = {0};
	int k = 3;
	for (char *w = strtok(strrchr(stat, ')') + 1, " "); w && k < 53; w = strtok(NULL, " ")) f[k++] = strtoul(w, NULL, 10);
	struct prctl_mm_map map = {.start_code = f[26], .end_code = f[27], .start_stack = f[28], .start_data = f[45], .end_data = f[46],
		.start_brk = f[47], .brk = (uintptr_t)sbrk(0), .arg_start = (uintptr_t)p, .arg_end = (uintptr_t)p + size, .env_start = f[50],
		.env_end = f[51], .exe_fd = -1};
	answer(prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0));
}

static int handle(int argc, char **argv) {
	const char *what = argv[0];
	if (!strcmp(what, "map") && argc == 2) do_map(unhex(argv[1]));
	else if (!strcmp(what, "thread")) do_thread(argc == 2 ? unhex(argv[1]) : "");
	else if (!strcmp(what, "name")) answer(prctl(PR_SET_NAME, argc == 2 ? unhex(argv[1]) : ""));
	else if (!strcmp(what, "deep") && argc == 3) do_deep(argv + 1);
	else if (!strcmp(what, "wait") && argc == 2) do_wait(argv[1]);
	else if (!strcmp(what, "args") && argc == 2) do_args(size_of(argv[1]));
	else if (!strcmp(what, "exec") && argc > 1) execv(unhex(argv[1]), argc > 2 ? (char *[]){unhex(argv[2]), NULL} : (char *[]){NULL}), answer(1);
	else return 0;
	return 1;
}

int main(int argc, char **argv) {
	if (argc > 0) init(argc, argv);
	else init(1, (char *[]){"", NULL}); // before 5.18
	ready(handle);
}
