// witness: one thread stamps an ever increasing counter into the first word
// of each of N pages, in order, forever.
#include "helper.h"

static char *base;
static size_t pages;
static volatile uint64_t sweeps;

static void witness(struct thread *t) {
	for (uint64_t v = 1;; v++) {
		for (size_t i = 0; i < pages; i++) __atomic_store_n((uint64_t *)(base + i * PAGE), v, __ATOMIC_RELEASE);
		store(&sweeps, v);
		settle(t);
	}
}

static int handle(int argc, char **argv) {
	(void)argc;
	if (strcmp(argv[0], "sweeps")) return 0;
	say("sweeps %llu", (unsigned long long)load(&sweeps));
	return 1;
}

int main(int argc, char **argv) {
	static struct thread t = {.name = "witness", .run = witness};
	init(argc, argv);
	pages = size_opt("--pages", 1024);
	base = map_kind(opt("--memory", 1), pages * PAGE);
	start(&t, NULL);
	wait_settled(&t);
	say("thread %s %d witness", t.name, t.tid);
	say("base %p", base);
	say("pages %zu", pages);
	ready(handle);
}
