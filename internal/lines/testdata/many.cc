// Functions that are inlined into each other, templates, lambdas, functions in
// sections of their own, and code that the compiler puts elsewhere.
#include <algorithm>
#include <cstdio>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace outer {
namespace {
static inline __attribute__((always_inline)) int innermost(int x) {
	return x * 3 + (x >> 2);
}
}
template <typename T> struct Box {
	T value;
	__attribute__((always_inline)) T twice() const { return value + innermost(static_cast<int>(value)); }
	__attribute__((noinline)) T slow(int n) const {
		T sum = value;
		for (int i = 0; i < n; i++)
			sum += twice() ^ i;
		return sum;
	}
};
__attribute__((noinline)) void fails(int n) {
	if (n > 1000)
		throw std::runtime_error("too much: " + std::to_string(n));
	std::printf("%d\n", innermost(n));
}
}

static __attribute__((noinline)) int sorted(std::vector<std::string> &v, int n) {
	std::map<int, std::string> by;
	for (auto &s : v)
		by[outer::Box<int>{static_cast<int>(s.size())}.twice()] = s;
	std::sort(v.begin(), v.end(), [n](const std::string &a, const std::string &b) {
		return a.size() % n < b.size() % n;
	});
	return static_cast<int>(by.size());
}

int main(int argc, char **argv) {
	std::vector<std::string> words(argv, argv + argc);
	outer::Box<long> b{argc};
	try {
		outer::fails(argc * 10);
	} catch (const std::exception &e) {
		std::puts(e.what());
	}
	std::printf("%ld %d\n", b.slow(argc), sorted(words, argc + 1));
	return 0;
}
