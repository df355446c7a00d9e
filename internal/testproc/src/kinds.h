// Kinds of mappings of zoo that few programs have.
#include <sys/ipc.h>
#include <sys/shm.h>

// write_stamp writes into a file what stamp_page would write to the page at p.
static void write_stamp(int fd, size_t page, char *p) {
	static uint64_t words[PAGE / 8];
	for (size_t i = 0; i < PAGE / 8; i++) words[i] = stamp + (uintptr_t)p + page * PAGE + 8 * i;
	if (pwrite(fd, words, PAGE, page * PAGE) != (ssize_t)PAGE) die("write");
}

static int guard_page(char *p) { return madvise(p, PAGE, 102 /* MADV_GUARD_INSTALL */); }

// guards: one in a private mapping of a file, one in shared memory, which holds
// data behind it. Linux 6.15.
static void file_guards(void) {
	if (wanted("guardfile")) {
		int fd = make_file("guarded-file", 4 * PAGE);
		char *p = map("guardfile", 4, RW, MAP_PRIVATE, fd), kind[32];
		close(fd);
		if (p) stamp_page(p + 3 * PAGE);
		if (p && guard_page(p + PAGE)) missing("guardfile"), munmap(p, 4 * PAGE);
		else if (p) {
			sprintf(kind, "file:%lu", 4 * PAGE);
			announce_path("guardfile", "guarded-file");
			announce("guardfile", p, 4 * PAGE, kind, "3");
		}
	}
	if (wanted("guardshared")) {
		char *p = map("guardshared", 4, RW, MAP_SHARED | MAP_ANONYMOUS, -1);
		if (p) stamp_pages(p, "0-2");
		if (p && guard_page(p + PAGE)) missing("guardshared"), munmap(p, 4 * PAGE);
		else if (p) announce("guardshared", p, 4 * PAGE, "anon", "0,2");
	}
}

// sparse: pages 1 and the last but one are in the file, 2 and the middle one
// are written privately, of which one has a hole behind it.
static void sparse_file(size_t size) {
	if (!wanted("sparse")) return;
	size_t pages = size / PAGE;
	char *p = place(size, PAGE), stamped[64];
	int fd = open("sparse-file", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || ftruncate(fd, size)) die("sparse-file");
	write_stamp(fd, 1, p);
	write_stamp(fd, pages - 2, p);
	if (mmap(p, size, RW, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED) return missing("sparse");
	close(fd);
	stamp_page(p + 2 * PAGE), stamp_page(p + pages / 2 * PAGE);
	sprintf(stamped, "1-2,%zu,%zu", pages / 2, pages - 2);
	announce_path("sparse", "sparse-file");
	announce("sparse", p, size, "anon", stamped);
}

// Private mappings of files without a name, of which the process has written
// nothing, or one page.
static void nameless_files(void) {
	if (wanted("memfdprivate")) {
		char *p = place(4 * PAGE, PAGE);
		int fd = memfd_create("zoo-private", MFD_CLOEXEC);
		if (fd < 0 || ftruncate(fd, 4 * PAGE)) return missing("memfdprivate");
		for (int i = 0; i < 3; i++) write_stamp(fd, i, p);
		if (mmap(p, 4 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED) return missing("memfdprivate");
		close(fd);
		announce("memfdprivate", p, 4 * PAGE, "anon", "0-2");
	}
	for (int written = 0; written < 2; written++) {
		const char *name = written ? "deleted" : "deletedclean";
		file(name, "deleted-file", 4 * PAGE, 4, MAP_PRIVATE, written ? "0" : "-");
		if (wanted(name)) unlink("deleted-file");
	}
	if (wanted("replaced")) {
		file("replaced", "replaced-file", 4 * PAGE, 4, MAP_PRIVATE, "-");
		close(make_file("other-file", PAGE));
		if (rename("other-file", "replaced-file")) die("rename");
	}
}

static void sysv(void) {
	if (!wanted("sysv")) return;
	int id = shmget(IPC_PRIVATE, 4 * PAGE, IPC_CREAT | 0600);
	char *p = id < 0 ? (char *)-1 : shmat(id, place(4 * PAGE, PAGE), 0);
	if (p == (char *)-1) return missing("sysv");
	shmctl(id, IPC_RMID, NULL);
	stamp_pages(p, "0,2");
	announce("sysv", p, 4 * PAGE, "anon", "0,2");
}

static void droppable(void) {
	if (!wanted("droppable")) return;
	char *p = map("droppable", 4, RW, 0x08 /* MAP_DROPPABLE, Linux 6.11 */ | MAP_ANONYMOUS, -1);
	if (p) stamp_pages(p, "0,2"), announce("droppable", p, 4 * PAGE, "anon", "0,2");
}

// hugeshared takes a huge page more than the other mappings: --hugeshared.
static void huge_shared(void) {
	if (!opt("--hugeshared", 0)) return;
	int fd = memfd_create("zoo-huge", MFD_CLOEXEC | 4 /* MFD_HUGETLB */);
	if (fd < 0 || ftruncate(fd, 2 << 20)) return missing("hugeshared");
	char *p = map_align("hugeshared", 2 << 20, 2 << 20, RW, MAP_SHARED, fd);
	close(fd);
	if (p) stamp_pages(p, "0,100-200"), announce("hugeshared", p, 2 << 20, "anon", "0,100-200");
}

// ring tells of a mapping whose bytes are the kernel's.
static void ring(const char *name, void *p) {
	char line[512];
	FILE *f = fopen("/proc/self/maps", "r");
	while (f && fgets(line, sizeof line, f)) {
		unsigned long start, end;
		if (sscanf(line, "%lx-%lx", &start, &end) == 2 && start == (uintptr_t)p) say("area %s %p %lu", name, p, end - start);
	}
	if (f) fclose(f);
}

// rings: none is touched by the process.
static void rings(void) {
	if (wanted("aio")) {
		unsigned long ctx = 0;
		if (syscall(SYS_io_setup, 32, &ctx)) missing("aio");
		else ring("aio", (void *)ctx);
	}
	if (wanted("uring")) {
		char params[120] = {0}; // struct io_uring_params
		int fd = syscall(425 /* io_uring_setup, Linux 5.1 */, 8, params);
		char *p = fd < 0 ? MAP_FAILED : mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0);
		if (p == MAP_FAILED) missing("uring");
		else ring("uring", p);
	}
}

// reserved is address space as runtimes reserve it: --reserved SIZE.
static void reserved(size_t size) {
	if (!size || !wanted("reserved")) return;
	char *p = map("reserved", size / PAGE, RW, ANON | MAP_NORESERVE, -1), stamped[64];
	if (!p) return;
	sprintf(stamped, "0,%zu,%zu", size / PAGE / 2, size / PAGE - 1);
	stamp_pages(p, stamped);
	announce("reserved", p, size, "anon", stamped);
}

static void make_rare_mappings(void) {
	reserved(size_opt("--reserved", 0));
	file_guards();
	sparse_file(size_opt("--sparse", 16 << 20));
	nameless_files();
	sysv();
	droppable();
	huge_shared();
}
