// Package core writes and reads the ELF core files of Linux processes.
//
// Writing begins with an image of the process: Select decides which memory
// goes into the core, and a Writer, over a file (NewFileWriter) or a stream
// (NewStreamWriter), copies it and adds what is known of the process:
//
//	segs := core.Select(img, mem, core.FilterDefault)
//	w, err := core.NewFileWriter(file, img.Arch, segs)
//	err = w.Copy(ctx, mem)
//	err = w.Finish(img, &report)
//
// Reading begins with Open. A File is a procmem.Memory, so whatever reads a
// live process reads a core as well. It takes cores of the kernel, of gdb and
// lldb and of this package, for amd64, i386 and arm64, and does not trust
// them: a hostile file gives a *FormatError, never a panic.
//
// What the package promises about memory that could not be read: it is listed
// in the Report inside the core, and reading it from the core gives a fault,
// although the file holds zeros there. It does not promise that the memory is
// of one moment; that is the business of who stops the process, and
// Report.Consistent tells.
package core
