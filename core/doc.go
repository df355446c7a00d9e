// Package core writes and reads the ELF core files of Linux processes.
//
// Writing begins with an image of the process. Select decides which memory goes into the core.
// A Writer, over a file (NewFileWriter) or a stream (NewStreamWriter), copies it and adds what
// is known of the process:
//
//	segs := core.Select(img, mem, core.FilterDefault)
//	w, err := core.NewFileWriter(file, img.Arch, segs)
//	err = w.Copy(ctx, mem)
//	err = w.Finish(img, &report)
//
// Reading begins with Open, or with NewReader where the core is not in a file of its own. Both
// take plain and compressed cores. A File is a procmem.Memory, so code that reads a live process reads
// a core as well. File reads cores of the kernel, of gdb and lldb and of this package, for
// amd64, i386 and arm64. It does not trust them: a hostile file gives a *FormatError, never a
// panic.
//
// Memory that could not be read is listed in the Report inside the core. Reading it from the
// core gives a fault, although the file holds zeros there. The package does not make the memory
// one moment: that is up to the code that stops the process. Report.Consistent says whether it
// is.
package core
