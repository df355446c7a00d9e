package kernels

import (
	"fmt"
	"slices"
)

// machine is a virtual machine, with a kernel of Debian.
type machine struct {
	name   string
	suite  string // of Debian, which has the kernel
	arch   string // as Debian and Go name it
	kernel string // the package that depends on the suite's kernel
}

// Kernels whose name has cloud in it have what a virtual machine needs, and are small.
var machines = []machine{
	{name: "5.10-amd64", suite: "bullseye", arch: "amd64", kernel: "linux-image-cloud-amd64"},
	{name: "6.1-amd64", suite: "bookworm", arch: "amd64", kernel: "linux-image-cloud-amd64"},
	{name: "6.12-amd64", suite: "trixie", arch: "amd64", kernel: "linux-image-cloud-amd64"},
	{name: "newest-amd64", suite: "sid", arch: "amd64", kernel: "linux-image-cloud-amd64"},
	{name: "6.12-arm64", suite: "trixie", arch: "arm64", kernel: "linux-image-cloud-arm64"},
	{name: "newest-arm64-16k", suite: "sid", arch: "arm64", kernel: "linux-image-arm64-16k"},
}

// commands are all that run in each machine. Yama's last limit cannot be lifted, so it is last.
func commands() []string {
	const guest = "kernels/guest.test -in-guest -test.v=test2json -test.timeout 10m "
	harm := func(tests string) string {
		return fmt.Sprintf("harm.test -test.v=test2json -test.timeout 1h -dumps %d -kills %d -test.run '^Test(%s)$'", *dumps, *kills, tests)
	}
	middle := []string{harm("Witness"), harm(ended)}
	if *quick {
		middle = []string{harm("Witness"), harm("HelperKilled|EveryCommand")}
	}
	return slices.Concat([]string{guest + "-test.skip ForGood"}, middle, []string{guest + "-test.run ForGood"})
}

// ended are the tests of harm in which procmem, its helper or the target is killed or has a
// signal, and the one of every command.
const ended = "HelperKilled|HeldThreadsCannotBeAsked|KilledWhileHeld|SignalsArriveOnce|SignalsMeanwhile|StoppedTarget|EveryCommand"
