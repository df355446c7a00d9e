// contents ZEROS TEXT RANDOM: so many bytes of each, one behind the other, all
// of them written. It says where, and ends when its stdin does.
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

static uint64_t state = 1;

static uint64_t next(void) { // splitmix64
	uint64_t x = state += 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static unsigned below(unsigned n) { return next() % n; }

#define ONE_OF(list) list[below(sizeof list / sizeof *list)]

// line writes a line of a log as servers keep them.
static size_t line(char *to, size_t size) {
	static const char *const levels[] = {"INFO", "INFO", "INFO", "DEBUG", "WARN", "ERROR"};
	static const char *const parts[] = {"http", "auth", "orders", "billing", "cache", "mailer"};
	static const char *const verbs[] = {"GET", "GET", "POST", "PUT", "DELETE"};
	static const char *const paths[] = {"orders", "customers", "items", "sessions", "invoices", "search"};
	static const char *const causes[] = {"connection refused", "timeout", "no such row", "lock wait", "quota exceeded"};
	static uint64_t us = 1764000000000000;
	us += below(2000);
	int n = snprintf(to, size, "%llu.%06llu %s [worker-%u] %s: ", (unsigned long long)(us / 1000000),
		(unsigned long long)(us % 1000000), ONE_OF(levels), below(32), ONE_OF(parts));
	switch (below(4)) {
	case 0:
	case 1:
		n += snprintf(to + n, size - n, "%s /api/v2/%s/%u %u in %u.%03u ms, client 10.%u.%u.%u, request %016llx\n", ONE_OF(verbs),
			ONE_OF(paths), below(10000000), below(10) ? 200 : 404, below(300), below(1000), below(4), below(256), below(256),
			(unsigned long long)next());
		break;
	case 2:
		n += snprintf(to + n, size - n, "user %u has %u %s, %u of them new since %llu\n", below(1000000), below(500), ONE_OF(paths),
			below(50), (unsigned long long)(us / 1000000 - below(86400)));
		break;
	default:
		n += snprintf(to + n, size - n, "%s for /api/v2/%s/%u, attempt %u of 5, next one in %u ms\n", ONE_OF(causes), ONE_OF(paths),
			below(10000000), 1 + below(5), 100 << below(6));
	}
	return n;
}

int main(int argc, char **argv) {
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (argc != 4) return fprintf(stderr, "usage: contents ZEROS TEXT RANDOM\n"), 2;
	size_t zeros = strtoull(argv[1], NULL, 0), text = strtoull(argv[2], NULL, 0), noise = strtoull(argv[3], NULL, 0);
	size_t size = zeros + text + noise;
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED) return perror("mmap"), 1;
	for (size_t i = 0; i < zeros; i += 4096) *(volatile char *)(p + i) = 0;
	for (char *to = p + zeros, *end = to + text; to < end;) {
		char buf[512];
		size_t n = line(buf, sizeof buf);
		if (n > (size_t)(end - to)) n = end - to;
		memcpy(to, buf, n);
		to += n;
	}
	for (size_t i = 0; i + 8 <= noise; i += 8) *(uint64_t *)(p + zeros + text + i) = next();
	printf("data %p %p\nready\n", (void *)p, (void *)(p + size));
	fflush(stdout);
	char c;
	while (read(0, &c, 1) > 0);
}
