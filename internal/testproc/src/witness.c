// witness: one thread stamps an ever increasing counter into the first word
// of each of N pages, in order, forever. With --churn other threads change
// which pages there are, and tell in a table what each region holds. With --process
// another process does it, which has the same memory.
#include "helper.h"
#include <sched.h>

static char *base, *second; // the same memory
static size_t pages;
static volatile uint64_t sweeps;

static void witness(struct thread *t) {
	for (uint64_t v = 1;; v++) {
		char *by = v % 2 ? base : second;
		for (size_t i = 0; i < pages; i++) __atomic_store_n((uint64_t *)(by + i * PAGE), v, __ATOMIC_RELEASE);
		store(&sweeps, v);
		settle(t);
	}
}

// other_process runs a thread's function in a process that shares the memory. It has
// the thread pointer of the thread that starts it, and hence calls no function of a library.
static int witness_process(void *t) {
	syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	witness(t);
	return 0;
}

static void other_process(struct thread *t) {
	static char stack[64 << 10] __attribute__((aligned(16)));
	pid_t child = clone(witness_process, stack + sizeof stack, CLONE_VM | CLONE_FS | CLONE_FILES | SIGCHLD, t);
	if (child < 0) die("clone");
	wait_settled(t);
	say("process %d", child);
}

// other_mapping makes a process that has a mapping of the same shared memory.
static void other_mapping(void) {
	pid_t child = fork();
	if (child < 0) die("fork");
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(0), close(1);
		for (;;) pause();
	}
	say("child %d", child);
}

// ---- regions that are filled, dropped, moved, unmapped and mapped ----

#define REGIONS 6
#define REGION_PAGES 64

// What a region holds. Page i of it, if bit i of filled is set, holds in each
// of its words page_word(region, home + i * PAGE, generation, word), else
// zeros. gone is where it was before, and where no page of it may be found.
struct state {
	uint64_t mapped, addr, home, generation, filled, gone, fills;
};

// The state is states[now], and if busy may be that of the other one as well:
// a system call leads from one to the other at once, a fill (fills is set in
// the state that it leads to) page by page, in ascending order.
static struct region {
	uint64_t busy, now;
	struct state states[2];
} *regions;
static uint64_t operations;

static uint64_t page_word(uint64_t region, uint64_t addr, uint64_t generation, uint64_t word) {
	if (word == 0) return stamp + region; // by which a page is known
	if (word == 1) return addr;
	if (word == 2) return generation;
	return mix(stamp + addr + (generation << 32) + word);
}

#define REGION_LEN (REGION_PAGES * PAGE)

static void *reserve(int prot) {
	void *p = mmap(NULL, REGION_LEN, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED) die("mmap");
	return p;
}

static void become(struct region *r, struct state s) { r->states[1 - r->now] = s; }

static void begin(struct region *r) { store(&r->busy, 1); }

static void end(struct region *r) {
	store(&r->now, 1 - r->now);
	store(&r->busy, 0);
	add(&operations, 1);
}

static void refill(struct region *r, struct state s) {
	s.home = s.addr, s.generation++, s.filled = ~0ull, s.fills = 1;
	become(r, s);
	begin(r);
	for (size_t i = 0; i < REGION_PAGES; i++) {
		volatile uint64_t *w = (uint64_t *)(uintptr_t)(s.addr + i * PAGE);
		for (size_t k = 0; k < PAGE / 8; k++) store(&w[k], page_word(r - regions, s.home + i * PAGE, s.generation, k)); // at once, i386 included
	}
	end(r);
}

static void drop(struct region *r, struct state s, uint64_t random) {
	size_t first = random % REGION_PAGES, n = 1 + (random >> 8) % (REGION_PAGES - first);
	for (size_t i = first; i < first + n; i++) s.filled &= ~(1ull << i);
	become(r, s);
	begin(r);
	if (madvise((void *)(uintptr_t)(s.addr + first * PAGE), n * PAGE, MADV_DONTNEED)) die("madvise");
	end(r);
}

static void move(struct region *r, struct state s) {
	void *from = (void *)(uintptr_t)s.addr, *to = reserve(PROT_NONE);
	s.gone = s.addr, s.addr = (uintptr_t)to;
	become(r, s);
	begin(r);
	if (mremap(from, REGION_LEN, REGION_LEN, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to) die("mremap");
	end(r);
}

static void unmap(struct region *r, struct state s) {
	s.mapped = 0, s.gone = s.addr;
	become(r, s);
	begin(r);
	if (munmap((void *)(uintptr_t)s.addr, REGION_LEN)) die("munmap");
	end(r);
}

static void map(struct region *r, struct state s) {
	s.mapped = 1, s.filled = 0;
	s.addr = (uintptr_t)reserve(PROT_READ | PROT_WRITE);
	become(r, s); // the new mapping holds nothing, so that nobody sees when it came
	begin(r);
	end(r);
}

static void churn(struct thread *t) {
	settle(t);
	for (uint64_t random = stamp + t->index;; sleep_ns(20000)) {
		random = mix(random);
		struct region *r = &regions[t->index + random % 2 * (REGIONS / 2)];
		struct state s = r->states[r->now];
		s.fills = 0;
		if (!s.mapped) map(r, s);
		else switch (random >> 8 & 7) {
		case 0: case 1: drop(r, s, random >> 16); break;
		case 2: case 3: move(r, s); break;
		case 4: unmap(r, s); break;
		default: refill(r, s);
		}
	}
}

static void *short_life(void *unused) { return unused; }

static void lives(struct thread *t) {
	settle(t);
	for (;; sleep_ns(100000)) {
		pthread_t id;
		if ((errno = pthread_create(&id, NULL, short_life, NULL))) die("pthread_create");
		pthread_join(id, NULL);
	}
}

static void start_churn(void) {
	static struct thread threads[REGIONS / 2 + 1];
	regions = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (regions == MAP_FAILED) die("mmap");
	for (int i = 0; i <= REGIONS / 2; i++) {
		threads[i] = (struct thread){.run = i < REGIONS / 2 ? churn : lives, .index = i};
		sprintf(threads[i].name, "churn-%d", i);
		start(&threads[i], NULL);
		wait_settled(&threads[i]);
	}
	say("churn %p %d %d", (void *)regions, REGIONS, REGION_PAGES);
}

static int handle(int argc, char **argv) {
	(void)argc;
	if (!strcmp(argv[0], "sweeps")) say("sweeps %llu", (unsigned long long)load(&sweeps));
	else if (!strcmp(argv[0], "operations")) say("operations %llu", (unsigned long long)load(&operations));
	else return 0;
	return 1;
}

int main(int argc, char **argv) {
	static struct thread t = {.name = "witness", .run = witness};
	init(argc, argv);
	pages = size_opt("--pages", 1024);
	base = second = map_kind(opt("--memory", 1), pages * PAGE);
	if (opt("--twice", 0) && (second = mremap(base, 0, pages * PAGE, MREMAP_MAYMOVE)) == MAP_FAILED) die("mremap");
	if (opt("--child", 0)) other_mapping();
	if (opt("--process", 0)) {
		other_process(&t);
	} else {
		start(&t, NULL);
		wait_settled(&t);
		say("thread %s %d witness", t.name, t.tid);
	}
	say("base %p", base);
	say("second %p", second);
	say("pages %zu", pages);
	if (opt("--churn", 0)) start_churn();
	ready(handle);
}
