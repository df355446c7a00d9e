package kernels

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
