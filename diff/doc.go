// Package diff compares two memories: two cores, a core and the process that it was taken of,
// two processes.
//
// Start with New. Mappings returns which mappings came, went, grew or shrank, or have another
// name or permission now. Changes yields what differs in the memory that both have mapped, in
// ascending order of address. Stats returns afterwards how much was compared, where in each
// mapping the changes lie, and what could not be compared.
//
// Memory is compared by address: a mapping is not looked for at another place. So two processes
// whose addresses were laid out at random (ASLR) have little in common, and two moments of one
// process all that has stayed.
//
// Memory that was never touched equals zeros, and nothing is read if neither side holds
// anything. Memory that one of the two cannot show is no difference, but is listed as missing.
// A core may not hold it, or the kernel may refuse it. Memory of a running process is compared
// while it changes, and may be torn.
//
// Not promised: that all differences of mappings are found if one side is a core of another
// program. Such a core may not tell names, or which mappings are shared.
package diff
