// Package term is what a person sees: hexdumps, typed values, tables and the decision whether
// to colour them. Start at NewHexdump, NewValues and NewTable; each writes to an io.Writer
// through a buffer of its own that Close empties, and none closes that writer.
//
// Nothing here is a format for programs to read: layouts follow the width, the colours and the
// character set of the terminal. Programs read --json.
//
// Whatever comes from the target (bytes, paths, names, annotations) is made harmless before it
// is printed: see Printable.
package term
