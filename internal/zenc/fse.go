package zenc

import "math/bits"

const (
	maxCodes = 64 // of any kind; the format has 53 at most
	maxLog   = 9
	minLog   = 6 // enough states for all codes
)

// coder writes codes by finite state entropy. The rarer a code, the more bits it takes.
// Fractions of a bit are kept in the state.
type coder struct {
	count [maxCodes]uint32 // how often each code occurs
	codes int              // the highest one, and one
	log   uint8            // of the number of states; 0 if there is one code alone
	share [maxCodes]uint16 // how many states are those of a code
	moves [maxCodes]move
	after [1 << maxLog]uint16 // the states of each code, ascending, and their number added
	owner [1 << maxLog]uint8
}

// move is what a code does to the state. (state + bits) >> 16 is the number of its lower bits
// that are written. What is left of the state, plus base, is the index in after of the next
// state.
type move struct {
	bits uint32
	base int32
}

// build makes the tables for codes that were counted, total in all.
func (c *coder) build(total int, mostLog uint8) {
	kinds := 0
	for code, n := range c.count {
		if n > 0 {
			c.codes = code + 1
			kinds++
		}
	}
	if kinds == 1 {
		c.log, c.after[0], c.moves[c.codes-1] = 0, 0, move{}
		return
	}
	c.log = min(max(uint8(bits.Len(uint(total)))-2, minLog), mostLog)
	c.divide(total)
	c.spread()
}

// divide gives each code its share of the states, at least one.
func (c *coder) divide(total int) {
	states := 1 << c.log
	left := states
	for code, n := range c.count[:c.codes] {
		c.share[code] = 0
		if n > 0 {
			c.share[code] = uint16(max(1, (int(n)*states+total/2)/total))
			left -= int(c.share[code])
		}
	}
	for {
		most := 0
		for code, n := range c.share[:c.codes] {
			if n > c.share[most] {
				most = code
			}
		}
		if left >= 0 {
			c.share[most] += uint16(left)
			return
		}
		c.share[most]-- // there are fewer codes than states
		left++
	}
}

// spread spreads the states of each code evenly, as the format has it.
func (c *coder) spread() {
	states := 1 << c.log
	at := 0
	sum := 0
	var next [maxCodes]int
	for code, share := range c.share[:c.codes] {
		for range share {
			c.owner[at] = uint8(code)
			at = (at + states>>1 + states>>3 + 3) % states
		}
		if n := int(share); n > 0 {
			// Of a state some lower bits go, until it is n to 2n-1: so many, or one less.
			most := c.log - uint8(bits.Len(uint(n))-1)
			c.moves[code] = move{uint32(most)<<16 - uint32(n)<<most, int32(sum - n)}
		}
		next[code] = sum
		sum += int(share)
	}
	for state, code := range c.owner[:states] {
		c.after[next[code%maxCodes]] = uint16(states + state)
		next[code%maxCodes]++
	}
}

// first returns a state that code leads to.
func (c *coder) first(code uint8) uint32 {
	m := c.moves[code%maxCodes]
	n := (m.bits + 1<<15) >> 16
	return uint32(c.after[int32((n<<16-m.bits)>>n)+m.base])
}

// next returns the bits to be written for a code, and how many.
func (c *coder) next(state *uint32, code uint8) (x uint32, n uint8) {
	m := &c.moves[code%maxCodes]
	b := (*state + m.bits) >> 16 % 32
	x = *state & (1<<b - 1)
	*state = uint32(c.after[(int32(*state>>b)+m.base)&(1<<maxLog-1)])
	return x, uint8(b)
}

// mode is how the table is told: by the code that all are, or by the shares.
func (c *coder) mode() byte {
	if c.log == 0 {
		return 1
	}
	return 2
}

// appendTable appends the table: for each code its share and one, in no more bits than what is
// left of the states takes.
func (c *coder) appendTable(dst []byte) []byte {
	if c.log == 0 {
		return append(dst, byte(c.codes-1))
	}
	acc, n := uint64(c.log-5), 4
	put := func(x, bits int) {
		acc |= uint64(x) << n
		for n += bits; n >= 8; n -= 8 {
			dst = append(dst, byte(acc))
			acc >>= 8
		}
	}
	left := 1<<c.log + 1 // of the states, and one
	for code := 0; code < c.codes; code++ {
		size := bits.Len(uint(left)) // of what is to be written; values up to left
		short := 1<<size - 1 - left  // so many of them take a bit less
		value := int(c.share[code]) + 1
		left -= int(c.share[code])
		switch half := 1 << (size - 1); {
		case value < short:
			put(value, size-1)
		case value < half:
			put(value, size)
		default:
			put(value+short, size)
		}
		if c.share[code] > 0 {
			continue
		}
		more := 0 // that have no share
		for c.share[code+1] == 0 {
			code++
			more++
		}
		for ; more >= 3; more -= 3 {
			put(3, 2)
		}
		put(more, 2)
	}
	if n > 0 {
		dst = append(dst, byte(acc))
	}
	return dst
}
