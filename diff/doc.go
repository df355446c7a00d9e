// Package diff compares two memories, whatever they are: two cores, a core and
// the process that it was taken of, two processes.
//
// Start with New. Mappings tells which mappings came, went, grew or shrank, or
// have another name or permission now; Changes yields what differs in the
// memory that both have mapped, in ascending order of address; Stats tells
// afterwards how much was compared, where the changes lie in each mapping, and
// what could not be compared.
//
// Memory is compared by address: no mapping is looked for at another place.
// Two processes whose addresses were laid out at random (ASLR) have little in
// common then, two moments of one process all that stays.
//
// Memory that was never touched equals zeros, and where neither holds
// anything, nothing is read. What one of the two cannot show (a core does not
// hold it, the kernel refuses it) is no difference: it is listed as missing.
// Memory of a process is compared while that goes on, and may be torn.
//
// Not promised: to tell all differences of mappings where one of the two is a
// core of another program, which may not tell names, or which are shared.
package diff
