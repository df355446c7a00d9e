// Package target reads the words of the command line: TARGET, a process or a
// core, and RANGE, a part of its memory. Start with Open, or ParseList where TARGET may be several,
// and with ParseRange. Locator writes a RANGE.
//
// A word that cannot mean anything gives a *SyntaxError. One that means nothing
// here gives an error that names what comes close.
package target
