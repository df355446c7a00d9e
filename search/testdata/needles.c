/* Plants a text that is nowhere else, and says where. It is put together byte by byte in its place, from what is not
 * the text, so that no copy is left behind. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

enum { PAGE = 4096, LENGTH = 20 };

static const unsigned char hidden[LENGTH + 1] = "i`xru`bj&r,oddemd,53";

static void plant(const char *name, volatile unsigned char *p) {
	for (int i = 0; i < LENGTH; i++)
		p[i] = hidden[i] ^ 1;
	printf("needle %s %p 00\n", name, (void *)p);
}

static void *map(void *at, size_t size, int fd) {
	void *p = mmap(at, size, PROT_READ | PROT_WRITE, (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED) | (at ? MAP_FIXED : 0), fd, 0);
	if (p == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return p;
}

static unsigned char bss[3 * PAGE];

int main(void) {
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	printf("pid %d\n", (int)getpid());
	/* Five mappings without a gap: rw-, r--, of a memfd, rw- again, and one without any permission. */
	unsigned char *p = map(NULL, 34 * PAGE, -1);
	int fd = memfd_create("needles", 0);
	if (fd < 0 || ftruncate(fd, 4 * PAGE))
		return 1;
	p += PAGE;
	munmap(p - PAGE, PAGE);
	munmap(p + 32 * PAGE, PAGE);
	map(p + 8 * PAGE, 4 * PAGE, fd);
	memset(p, 'x', 32 * PAGE);
	plant("first", p);
	plant("page", p + PAGE - 7);
	plant("touching", p + PAGE - 7 + LENGTH);
	plant("mapping", p + 4 * PAGE - 1);
	plant("tomemfd", p + 8 * PAGE - 19);
	plant("frommemfd", p + 12 * PAGE - 10);
	plant("tonone", p + 16 * PAGE - 3);
	plant("last", p + 32 * PAGE - LENGTH);
	*(uint64_t *)(p + 20 * PAGE) = 0x1122334455667789ull ^ 1;
	*(void **)(p + 20 * PAGE + 64) = p + 20 * PAGE + 8;
	mprotect(p + 4 * PAGE, 4 * PAGE, PROT_READ);
	mprotect(p + 16 * PAGE, 16 * PAGE, PROT_NONE);
	printf("block %p %p\n", (void *)p, (void *)(p + 32 * PAGE));
	plant("bss", bss + PAGE - (uintptr_t)bss % PAGE + PAGE - 5);
	plant("heap", malloc(100));
	unsigned char *far = map(NULL, 64 << 20, -1); /* untouched but for its middle */
	plant("far", far + (32 << 20) - 9);
	printf("far %p %p\n", (void *)far, (void *)(far + (64 << 20)));
	printf("ready\n");
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
