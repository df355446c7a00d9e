// Package candidates finds out where in a memory a value is that changes. It keeps the places
// where it may be, the candidates, in a file, and looks at them again.
//
// Start with NewWriter, and add the matches of a search, or let EveryPosition add all that
// there is. Narrow reads such a file with a Reader. It keeps the candidates that have changed
// as a Change says, or hold a certain value now. It may save them for the next time.
//
// # What a file holds
//
// All candidates of a file have one type and alignment, and come from one Origin. That tells
// the caller whether a process is still the one that was looked at: this package does not
// compare origins. Files are written and read as streams, in ascending order of address. Each
// part of a file has a checksum, and a damaged file gives a *DamagedError. The use of memory
// does not depend on how many candidates there are.
package candidates
