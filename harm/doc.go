// Package harm holds no code. Its tests run the built command on real processes, and make
// happen what can go wrong. Examples are a signal at a bad moment, a dying target, a dying
// procmem, a full disk and a reader that has gone. The tests check that the target is none the
// worse for it, and that nothing half-written is left.
//
// Start at main_test.go: call runs procmem to its end, begin lets a test act in the middle, and
// unharmed looks at the target afterwards. In methods_test.go, forEachMethod runs a test for
// each way to take a moment. take takes a core, and undone waits until no trace is left in the
// target.
//
// TestTorture takes -trials and -seed, TestWitness takes -dumps, after -args: see make torture.
package harm
