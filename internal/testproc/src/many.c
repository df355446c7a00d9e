// many: many threads, many mappings, threads that come and go, or much memory.
#include "helper.h"

static size_t count;

// ---- threads N: blocked in futex, with stacks of 64 KiB side by side ----

#define STACK (64ul << 10)

static void block(struct thread *t) {
	uint32_t word = 0;
	settle(t);
	for (;;) futex(&word, OP_FUTEX_WAIT, 0);
}

static void many_threads(void) {
	char *stacks = map_kind(NULL, count * STACK);
	struct thread *threads = calloc(count, sizeof *threads);
	for (size_t i = 0; i < count; i++) {
		pthread_attr_t attr;
		pthread_attr_init(&attr);
		if ((errno = pthread_attr_setstack(&attr, stacks + i * STACK, STACK))) die("pthread_attr_setstack");
		threads[i] = (struct thread){.name = "many", .run = block};
		start(&threads[i], &attr);
		pthread_attr_destroy(&attr);
	}
	for (size_t i = 0; i < count; i++) wait_blocked(&threads[i]);
	say("threads %zu", count);
}

// ---- mappings N: pages by turns rw- and r--, each stamped ----

static void many_mappings(void) {
	char *p = map_kind(NULL, count * PAGE);
	madvise(p, count * PAGE, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < count; i++) stamp_page(p + i * PAGE);
	for (size_t i = 1; i < count; i += 2)
		if (mprotect(p + i * PAGE, PAGE, PROT_READ)) die("mprotect");
	say("mappings %p %zu", p, count);
}

// ---- storm M: M threads alive, each makes its successor and ends ----

static uint64_t storm_count;
static int storm_alive, storm_life;

static void *storm_thread(void *unused) {
	pthread_t id;
	add(&storm_count, 1);
	prctl(PR_SET_NAME, "storm");
	if (storm_life) sleep_ns(storm_life * 1000l);
	add(&storm_alive, 1); // before the successor is there, so that it is never below M
	while (pthread_create(&id, NULL, storm_thread, unused)) sleep_ns(100000);
	pthread_detach(id);
	add(&storm_alive, -1);
	return NULL;
}

static void storm(void) {
	for (size_t i = 0; i < count; i++) {
		pthread_t id;
		add(&storm_alive, 1);
		if ((errno = pthread_create(&id, NULL, storm_thread, NULL))) die("pthread_create");
		pthread_detach(id);
	}
	while (load(&storm_count) < 2 * count) sleep_ns(100000);
	say("storm %zu", count);
}

// ---- fill BYTES [random|zero|mixed] ----

static char *fill_base;

static void fill_random(volatile uint64_t *w) {
	for (size_t k = 0; k < PAGE / 8; k++) w[k] = mix(stamp + (uintptr_t)&w[k]);
}

static void fill_text(char *page, size_t index) {
	char line[65];
	memset(line, ' ', 64);
	line[snprintf(line, 64, "page %12zu: the same words again and again", index)] = ' ';
	line[63] = '\n';
	for (size_t k = 0; k < PAGE; k += 64) memcpy(page + k, line, 64);
}

static void fill(const char *memory, const char *kind) {
	if (!kind) kind = "random";
	fill_base = map_kind(memory, count);
	for (size_t i = 0; i < count / PAGE; i++) {
		char *page = fill_base + i * PAGE;
		int mixed = !strcmp(kind, "mixed");
		if (!strcmp(kind, "zero") || (mixed && i % 4 == 0)) *(volatile char *)page = 0;
		else if (mixed && i % 4 == 1) fill_text(page, i);
		else fill_random((uint64_t *)page);
	}
	say("fill %p %zu %s", fill_base, count, kind);
}

// ---- the writer: counts up in the last word of page after page ----

static int64_t writer_rate; // pages per second; 0 as many as it can, below 0 none
static uint64_t writes;
static size_t write_set;

static void writer(struct thread *t) {
	uint64_t done = 0, since = now_ns(), n = 0;
	int64_t rate = 0;
	int generation = 0;
	settle(t);
	for (;; n++) {
		if (load(&writer_rate) != rate) rate = load(&writer_rate), since = now_ns(), done = 0;
		while (rate < 0 || (rate > 0 && done * 1e9 > (double)(now_ns() - since) * rate)) {
			if (load(&writer_rate) != rate) break;
			sleep_ns(1000000);
		}
		if (rate < 0) continue;
		uint64_t before = now_ns();
		volatile uint64_t *w = (uint64_t *)(fill_base + n % (write_set / PAGE) * PAGE + PAGE - 8);
		*w = *w + 1;
		gap_step(&gap_write, before, &generation);
		done++;
		add(&writes, 1);
	}
}

static int handle(int argc, char **argv) {
	if (!strcmp(argv[0], "storm")) say("storm %llu %d", (unsigned long long)load(&storm_count), load(&storm_alive));
	else if (!strcmp(argv[0], "writes")) say("writes %llu", (unsigned long long)load(&writes));
	else if (!strcmp(argv[0], "writer") && argc == 2) store(&writer_rate, (int64_t)atoll(argv[1])), answer(0);
	else return 0;
	return 1;
}

int main(int argc, char **argv) {
	static struct thread writer_thread = {.name = "writer", .run = writer};
	init(argc, argv);
	const char *memory = opt("--memory", 1), *rate = opt("--writer", 1);
	write_set = size_opt("--writeset", 0);
	storm_life = size_opt("--life", 200);
	const char *what = arg(0), *n = arg(1);
	if (!what || !n) errno = EINVAL, die("usage: many threads|mappings|storm|fill N");
	count = size_of(n);
	if (!strcmp(what, "threads")) many_threads();
	else if (!strcmp(what, "mappings")) many_mappings();
	else if (!strcmp(what, "storm")) storm();
	else if (!strcmp(what, "fill")) fill(memory, arg(2));
	else errno = EINVAL, die(what);
	if (rate && fill_base) {
		writer_rate = atoll(rate);
		if (write_set == 0 || write_set > count) write_set = count;
		start(&writer_thread, NULL);
		wait_settled(&writer_thread);
		say("thread %s %d writer", writer_thread.name, writer_thread.tid);
	}
	ready(handle);
}
