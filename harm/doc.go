// Package harm holds no code. Its tests run the built command on real
// processes, make happen what can go wrong (a signal at a bad moment, a dying
// target, a dying procmem, a full disk, a reader that has gone), and check that
// the target is none the worse for it and that nothing half-written is left.
//
// Start at main_test.go: call runs procmem to its end, begin lets a test
// act in the middle, and unharmed looks at the target afterwards.
package harm
