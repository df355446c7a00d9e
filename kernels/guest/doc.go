// Package guest holds no code. Its tests run in the virtual machines of package kernels alone,
// because they set sysctls of the kernel, some of them for good. They run the static procmem
// that the machine has, and the helper programs of package testproc.
//
// Tests tell package kernels what belongs in docs/kernels.md by attributes: see testing.T.Attr
// and the functions in tell_test.go.
package guest
