package dfa

// maxWindow bounds a window, in bytes.
const maxWindow = 64

// window knows which bytes a match can begin with, and goes through memory in steps. A byte
// that can be at no offset of the window need not be looked at again where the window stands
// next.
type window struct {
	size  int
	class *[256]uint8
	n     int // classes
	// step is how many bytes the window can be moved on; 0: not at all. Its index is the last
	// two bytes that the window is over, the later one in the upper half.
	step [1 << 16]uint8
	back []uint8 // by offset in the window and class: the same for a byte there
}

// pair is two sets of bytes, one after the other.
type pair struct{ x, y set }

// beginnings returns the sets of bytes, and of neighbours, that the first bytes of a match are
// in. The second begins with those for the bytes 0 and 1.
func beginnings(p *prog, size int) (sets []set, pairs [][]pair) {
	d := newLazy(p, p.start, true, false, 0) // for its queues
	const any = ^look(0)
	d.follow(d.cleared(&d.next), p.start, any)
	at := append([]uint32(nil), d.next.dense...)
	for len(sets) < size {
		sets = append(sets, d.bytesOf(at))
		after := d.cleared(&d.next)
		for _, id := range at {
			if i := &p.insts[id]; i.op == opSet {
				d.follow(after, i.out, any)
			}
		}
		var ps []pair
		if len(at) > maxWindow {
			ps = []pair{{sets[len(sets)-1], d.bytesOf(after.dense)}}
		} else {
			for _, id := range at {
				if i := &p.insts[id]; i.op == opSet {
					d.follow(d.cleared(&d.cur), i.out, any)
					ps = append(ps, pair{p.sets[i.set], d.bytesOf(d.cur.dense)})
				}
			}
		}
		pairs = append(pairs, ps)
		at = append(at[:0], after.dense...)
	}
	return sets, pairs
}

func (d *lazy) cleared(q *queue) *queue {
	q.clear()
	return q
}

// bytesOf returns what instructions take.
func (d *lazy) bytesOf(at []uint32) (s set) {
	for _, id := range at {
		if i := &d.prog.insts[id]; i.op == opSet {
			s.union(&d.prog.sets[i.set])
		}
	}
	return s
}

// newWindow returns the window that is moved fastest, or nil if none is of use.
func newWindow(p *prog, minLen int) *window {
	sets, pairs := beginnings(p, min(minLen, maxWindow))
	best, size := minPace, 0
	for n := 2; n <= len(sets); n++ {
		if step := pace(sets[:n]); step > best {
			best, size = step, n
		}
	}
	if size == 0 {
		return nil
	}
	w := &window{size: size, class: &p.class, n: len(p.reps)}
	w.fill(p, sets[:size], pairs[:size])
	return w
}

// minPace is how many bytes must be left behind for each that is looked at.
const minPace = 1.3

// pace guesses how far a window goes on average when one byte is looked at. Memory is taken to
// be text and anything else in equal parts.
func pace(sets []set) float64 {
	sum, all := 0.0, 0.0
	for c := range 256 {
		weight := 1.0
		if r := rarity(byte(c)); r < len(common) {
			weight += 200 / float64(8+r)
		}
		step := len(sets)
		for k, s := range sets {
			if s.has(byte(c)) {
				step = len(sets) - 1 - k
			}
		}
		sum += weight * float64(step)
		all += weight
	}
	return sum / all
}

// fill makes the tables.
func (w *window) fill(p *prog, sets []set, pairs [][]pair) {
	byClass := make([]uint8, w.n*w.n) // by x and y
	for i := range byClass {
		byClass[i] = uint8(w.size)
	}
	// What would be nearer comes later.
	w.mark(byClass, p, pair{anyByte, sets[0]}, w.size-1)
	for k := 1; k < w.size; k++ {
		for _, x := range pairs[k-1] {
			w.mark(byClass, p, x, w.size-1-k)
		}
	}
	for y := range 256 {
		for x := range 256 {
			w.step[y<<8|x] = byClass[int(p.class[x])*w.n+int(p.class[y])]
		}
	}
	w.back = make([]uint8, w.size*w.n)
	for at := range w.size {
		for c, rep := range p.reps {
			step := 0
			for step <= at && !sets[at-step].has(rep) {
				step++
			}
			w.back[at*w.n+c] = uint8(step)
		}
	}
}

func (w *window) mark(byClass []uint8, p *prog, x pair, step int) {
	for i, a := range p.reps {
		if !x.x.has(a) {
			continue
		}
		for j, b := range p.reps {
			if x.y.has(b) {
				byClass[i*w.n+j] = uint8(step)
			}
		}
	}
}

// find returns an offset at or after i in front of which no match begins, or -1 if none does at
// all.
func (w *window) find(b []byte, i int) int {
	looks := 0 // behind the first two bytes
	end := i + w.size
	for ; end <= len(b); end++ {
		for {
			step := int(w.step[uint(b[end-2])|uint(b[end-1])<<8])
			if step == 0 {
				break
			}
			if end += step; end > len(b) {
				return -1
			}
		}
		at := w.size - 3
		for at >= 0 && w.back[at*w.n+int(w.class[b[end-w.size+at]])] == 0 {
			at--
		}
		if looks += w.size - 3 - at; at < 0 || looks > 4*(end-i)+4*maxWindow {
			return end - w.size
		}
		end += int(w.back[at*w.n+int(w.class[b[end-w.size+at]])]) - 1
	}
	return -1
}
