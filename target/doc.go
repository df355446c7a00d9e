// Package target reads the words of the command line: TARGET, a process or a
// core, and RANGE, a part of its memory. Start with Open and ParseRange, or
// with ParseList where TARGET may be several. Locator writes a RANGE.
//
// A word that cannot mean anything gives a *SyntaxError. One that means nothing here gives an
// error that names what comes close.
package target
