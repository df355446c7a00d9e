package zenc

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// unpack decompresses frames with the library's decoder.
func unpack(t testing.TB, frames []byte) []byte {
	t.Helper()
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	p, err := d.DecodeAll(frames, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pack compresses p, with something else behind it.
func pack(e *Encoder, dst, p []byte) []byte {
	w := Window(bytes.Repeat([]byte{0xff}, len(Window{})))
	return e.Append(dst, &w, copy(w[:], p))
}

func noise(n int, seed uint64) []byte {
	p := make([]byte, n+8)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], r.Uint64())
	}
	return p[:n]
}

// logLines is text as servers write it.
func logLines(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	var p []byte
	for len(p) < n {
		p = fmt.Appendf(p, "%d.%06d INFO [worker-%d] http: GET /api/v2/orders/%d %d in %d ms, client 10.%d.%d.%d\n",
			1764000000+len(p)/1000, r.IntN(1e6), r.IntN(32), r.IntN(1e7), []int{200, 404}[r.IntN(2)], r.IntN(300), r.IntN(4), r.IntN(256), r.IntN(256))
	}
	return p[:n]
}

// objects is a heap: pointers into a few places, small numbers, lengths.
func objects(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 2))
	var p []byte
	for len(p) < n {
		p = binary.LittleEndian.AppendUint64(p, 0x55d0c0de4000+r.Uint64N(64)*0x40)
		p = binary.LittleEndian.AppendUint64(p, r.Uint64N(4))
		p = binary.LittleEndian.AppendUint64(p, 0x7f12a0000000+r.Uint64N(1<<20)*16)
		p = binary.LittleEndian.AppendUint64(p, uint64(len(p)))
	}
	return p[:n]
}

// programText is machine code and whatever else an executable has.
func programText(t testing.TB, n int) []byte {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return p[:min(n, len(p))]
}

// kinds returns MaxFrame bytes of each kind.
func kinds(t testing.TB) map[string][]byte {
	const n = MaxFrame
	k := map[string][]byte{
		"zeros":      make([]byte, n),
		"one byte":   bytes.Repeat([]byte{0xa5}, n),
		"noise":      noise(n, 1),
		"log":        logLines(n, 1),
		"objects":    objects(n, 1),
		"program":    programText(t, n),
		"two values": make([]byte, n), // hardly a match, and literals of one bit
		"hex":        fmt.Appendf(nil, "%x", noise(n/2, 2)),
		// What is raw tells no offsets: the block behind it begins with those
		// from before.
		"noise, then log": slices.Concat(noise(MaxBlock, 3), logLines(MaxBlock, 3)),
		"a match in vain": nil,
		"log, then noise": slices.Concat(logLines(MaxBlock, 4), noise(MaxBlock, 4)),
		// A match over the middle, and over 128 KiB.
		"noise twice":       slices.Concat(noise(n/2, 5), noise(n/2, 5)),
		"noise around":      slices.Concat(noise(n/2-100, 6), bytes.Repeat([]byte("abcdefg"), 300), noise(n, 6))[:n],
		"noise with words":  noise(n, 7),
		"noise with zeros":  noise(n, 8),
		"zeros with noise":  make([]byte, n),
		"periods":           nil,
		"literals and less": nil,
	}
	const far = 30
	vain := noise(MaxBlock, 10)
	copy(vain[2*far:], vain[far:][:7]) // too short to make it smaller
	for len(vain) < n {
		vain = append(vain, vain[len(vain)-far])
	}
	k["a match in vain"] = vain
	r := rand.New(rand.NewPCG(9, 9))
	for i := range k["two values"] {
		k["two values"][i] = byte(r.IntN(2))
	}
	for at := 0; at < n-16; at += 20 + r.IntN(300) {
		copy(k["noise with words"][at:], "a word or two")
	}
	for at := 0; at < n-5000; at += 1 + r.IntN(9000) {
		clear(k["noise with zeros"][at:][:r.IntN(5000)])
		copy(k["zeros with noise"][at:], noise(r.IntN(40), uint64(at)))
	}
	for period := 1; len(k["periods"]) < n; period++ {
		k["periods"] = append(k["periods"], bytes.Repeat(noise(period, uint64(period)), 2+r.IntN(40))...)
	}
	k["periods"] = k["periods"][:n]
	for i := 0; len(k["literals and less"]) < n; i++ {
		k["literals and less"] = append(k["literals and less"], noise(r.IntN(12), uint64(i%50))...)
	}
	k["literals and less"] = k["literals and less"][:n]
	return k
}

// What is compressed is the same afterwards: each kind in each length, with
// one encoder, which what came before makes no difference to.
func TestRoundTrip(t *testing.T) {
	sizes := []int{0, 1, 2, 7, 8, 9, 23, 24, 25, 31, 32, 33, 40, 63, 64, 65, 100, 500, 1023, 1024, 4096, 20000,
		MaxBlock - 1, MaxBlock, MaxBlock + 1, MaxBlock + 8, MaxBlock + 30, MaxFrame - 1, MaxFrame}
	used := new(Encoder)
	for name, data := range kinds(t) {
		for _, n := range sizes {
			for _, p := range [][]byte{data[:n], data[len(data)-n:]} {
				const before = "before"
				out := pack(used, []byte(before), p)
				frame, ok := bytes.CutPrefix(out, []byte(before))
				if !ok || len(frame) > MaxLen(n) {
					t.Fatalf("%s, %d bytes: a frame of %d; MaxLen is %d", name, n, len(frame), MaxLen(n))
				}
				if !bytes.Equal(unpack(t, frame), p) {
					t.Fatalf("%s, %d bytes: they differ", name, n)
				}
				if fresh := pack(new(Encoder), nil, p); !bytes.Equal(fresh, frame) {
					t.Fatalf("%s, %d bytes: a used encoder makes another frame", name, n)
				}
			}
		}
	}
}

// The command zstd, which is the other decoder, takes the frames.
func TestZstdCommand(t *testing.T) {
	var plain, packed []byte
	e := new(Encoder)
	for _, data := range kinds(t) {
		for _, p := range [][]byte{data, data[:len(data)/3], data[:100]} {
			plain, packed = append(plain, p...), pack(e, packed, p)
		}
	}
	cmd := exec.Command("zstd", "-d", "-c")
	cmd.Stdin = bytes.NewReader(packed)
	var msg bytes.Buffer
	cmd.Stderr = &msg
	got, err := cmd.Output()
	if err != nil || !bytes.Equal(got, plain) {
		t.Errorf("zstd -d: %v, %d bytes of %d\n%s", err, len(got), len(plain), msg.Bytes())
	}
}

// Sequences of any kind can be told, whatever the search finds: each code of
// each length, the last offsets, and more sequences than two bytes count.
func TestSequences(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	// below is a random number less than n, as likely a small one as a large one.
	below := func(n int) int { return min(n-1, r.IntN(1<<r.IntN(bits.Len(uint(n))+1))) }
	e := new(Encoder)
	var litCodesSeen, matchCodesSeen, offsetsSeen [maxCodes]int
	most := 0
	for round := range 300 {
		e.seqCount, e.litCount = 0, 0
		literals := noise(MaxBlock, uint64(round))
		p := append([]byte(nil), literals[:MaxBlock]...) // the block before
		last := []int{1, 4, 8}
		longest := []int{1, 30, 2000, MaxBlock}[round%4]
		count := []int{len(e.seqs), 0x7f00 + r.IntN(0x100), 0x7eff, 0x80, 0x7f, 1}[r.IntN(6)]
		for left := MaxBlock; e.seqCount < count; {
			lits, match := below(longest), minMatch+below(longest)
			large := longest == 30 && e.seqCount/2 == 500 // two of rare codes, which take the most bits
			if large {
				lits, match = 16384+r.IntN(4096), 16384+r.IntN(4096)
			}
			if lits+match > left {
				break
			}
			left -= lits + match
			e.litCount += copy(e.lits[e.litCount:], literals[:lits])
			p = append(p, literals[:lits]...)
			offset, value := 1+below(len(p)), 0
			if large {
				offset = len(p) - r.IntN(1000)
			}
			switch k := r.IntN(5); {
			case k > 2 || large:
				value = offset + 3
				last = []int{offset, last[0], last[1]}
			case lits > 0:
				offset, value = last[k], k+1
				last = append([]int{offset}, slices.Delete(slices.Clone(last), k, k+1)...)
			case k < 2:
				offset, value = last[k+1], k+1
				last = append([]int{offset}, slices.Delete(slices.Clone(last), k+1, k+2)...)
			default:
				value = offset + 3
				last = []int{offset, last[0], last[1]}
			}
			for range match {
				p = append(p, p[len(p)-offset])
			}
			s := sequence{lits: uint32(lits), match: uint32(match), value: uint32(value)}
			e.seqs[e.seqCount] = s
			e.seqCount++
			s.encode()
			litCodesSeen[s.litCode]++
			matchCodesSeen[s.matchCode]++
			offsetsSeen[s.valueCode]++
			literals = literals[lits:]
		}
		most = max(most, e.seqCount)
		size := len(p) - MaxBlock
		frame := binary.LittleEndian.AppendUint32(nil, Magic)
		frame = binary.LittleEndian.AppendUint32(append(frame, 0xa0), uint32(len(p)))
		frame = append(frame, 0, 0, 16) // the block before, as it is
		frame = append(frame, p[:MaxBlock]...)
		block, ok := e.sequences(e.literals(nil))
		if !ok || len(block) > size {
			continue // it would be raw
		}
		h := len(block)<<3 | compressed<<1 | 1
		frame = append(append(frame, byte(h), byte(h>>8), byte(h>>16)), block...)
		if !bytes.Equal(unpack(t, frame), p) {
			t.Fatalf("round %d: %d sequences: they differ", round, e.seqCount)
		}
	}
	for name, seen := range map[string][]int{"literals": litCodesSeen[:36], "matches": matchCodesSeen[1:53], "offsets": offsetsSeen[:18]} {
		if slices.Contains(seen, 0) {
			t.Errorf("not all codes of %s were tried: %v", name, seen)
		}
	}
	if most < 0x7f00 {
		t.Errorf("%d sequences at most", most)
	}
}

// An offset that is the last but one is told as the first of those from before
// where there are no literals, as the second otherwise.
func TestLastButOne(t *testing.T) {
	for lits := range 3 {
		e := &Encoder{window: new(Window)}
		const far = 1000
		copy(e.window[:], noise(MaxFrame, 1))
		at := MaxBlock + lits
		copy(e.window[at:], e.window[at-far:][:100])
		e.recent[hash(e.window.at(at))] = uint32(at - far)
		e.offsets = [2]int{50, far}
		e.search(MaxBlock, MaxBlock+500)
		want := sequence{lits: uint32(lits), match: 100, value: 2}
		if lits == 0 {
			want.value = 1
		}
		if e.seqCount != 1 || e.seqs[0] != want || e.offsets != [2]int{far, 50} {
			t.Errorf("behind %d literals: %d sequences, %+v, offsets %d; want %+v", lits, e.seqCount, e.seqs[0], e.offsets, want)
		}
	}
}

// Each code that occurs has a share, and all of them are all states.
func TestShares(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for round := range 1000 {
		var c coder
		total := 0
		for code := range 53 {
			if n := r.Uint32N(1 + r.Uint32N(1<<r.IntN(16))); n > 0 || round%2 == 0 {
				c.count[code] = n + 1
				total += int(n) + 1
			}
		}
		c.build(total, maxLog)
		sum := 0
		for code, n := range c.count {
			if (n > 0) != (c.share[code] > 0) {
				t.Errorf("a code that occurs %d times has %d of %d states", n, c.share[code], 1<<c.log)
			}
			sum += int(c.share[code])
		}
		if sum != 1<<c.log {
			t.Fatalf("the shares are %d of %d states", sum, 1<<c.log)
		}
	}
}

// Literals without a code that is worth it are known from some of them.
func TestEven(t *testing.T) {
	seven := noise(MaxBlock, 1) // bits
	for i := range seven {
		seven[i] &= 0x7f
	}
	for _, c := range []struct {
		name string
		lits []byte
		want bool
	}{{"noise", noise(MaxBlock, 1), true}, {"some noise", noise(20000, 1), true}, {"little noise", noise(4096, 1), false},
		{"7 bits", seven, false}, {"log", logLines(MaxBlock, 1), false}} {
		if even(c.lits) != c.want {
			t.Errorf("%s: even is %v", c.name, !c.want)
		}
	}
}

// Sequences that take more room than what they stand for are given up.
func TestTooManySequences(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	e := new(Encoder)
	e.seqCount = len(e.seqs)
	for i := range e.seqs {
		e.seqs[i] = sequence{lits: r.Uint32N(1 << 16), match: minMatch + r.Uint32N(1<<16), value: 1 + r.Uint32N(1<<18)}
	}
	if _, ok := e.sequences(nil); ok {
		t.Errorf("%d sequences fit", e.seqCount)
	}
}

// Frames are about as small as those of the library at its fastest, and smaller
// where all that helps is a code for literals.
func TestSize(t *testing.T) {
	lib := library(t)
	e := new(Encoder)
	for name, data := range map[string][]byte{
		"log": logLines(4*MaxFrame, 1), "objects": objects(4*MaxFrame, 1), "program": programText(t, 4*MaxFrame), "noise": noise(MaxFrame, 1),
		"hex": kinds(t)["hex"], "two values": kinds(t)["two values"],
	} {
		var ours, theirs int
		for p := range slices.Chunk(data, MaxFrame) {
			ours += len(pack(e, nil, p))
			theirs += len(lib.EncodeAll(p, nil))
		}
		t.Logf("%-10s %d bytes: %d, the library %d", name, len(data), ours, theirs)
		if ours > theirs+theirs/10 || name == "hex" && ours > theirs*2/3 {
			t.Errorf("%s: %d bytes, the library has %d", name, ours, theirs)
		}
	}
}

// Nothing is allocated for a frame where there is room for it.
func TestAllocates(t *testing.T) {
	w, out, e := new(Window), make([]byte, 0, MaxLen(MaxFrame)), new(Encoder)
	copy(w[:], logLines(MaxFrame, 1))
	if n := testing.AllocsPerRun(10, func() { e.Append(out, w, MaxFrame) }); n > 0 {
		t.Errorf("%v allocations for a frame", n)
	}
}

func FuzzAppend(f *testing.F) {
	for _, data := range kinds(f) {
		f.Add(data[:200], uint16(700), uint8(3))
	}
	e := new(Encoder)
	f.Fuzz(func(t *testing.T, p []byte, repeat uint16, skip uint8) {
		// Some of it again and again, which makes frames of several blocks.
		for n := 0; n < int(repeat) && len(p) < MaxFrame; n++ {
			p = append(p, p[min(len(p), n*int(skip)):min(len(p), n*int(skip)+int(repeat))]...)
		}
		p = p[:min(len(p), MaxFrame)]
		if !bytes.Equal(unpack(t, pack(e, nil, p)), p) {
			t.Errorf("%d bytes differ", len(p))
		}
	})
}

func library(t testing.TB) *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(MaxFrame),
		zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithSingleSegment(true), zstd.WithEncoderCRC(true))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Each kind by the encoder and by the library, in turns: their ratio is what
// counts.
func BenchmarkAppend(b *testing.B) {
	e, w, lib := new(Encoder), new(Window), library(b)
	for name, data := range map[string][]byte{
		"log": logLines(4*MaxFrame, 1), "objects": objects(4*MaxFrame, 1), "program": programText(b, 4*MaxFrame), "noise": noise(4*MaxFrame, 1),
	} {
		for _, by := range []struct {
			name   string
			append func(dst, p []byte) []byte
		}{{"ours", func(dst, p []byte) []byte { return e.Append(dst, w, copy(w[:], p)) }}, {"library", func(dst, p []byte) []byte { return lib.EncodeAll(p, dst) }}} {
			b.Run(name+"/"+by.name, func(b *testing.B) {
				b.SetBytes(int64(len(data)))
				var out []byte
				size := 0
				for b.Loop() {
					size = 0
					for p := range slices.Chunk(data, MaxFrame) {
						out = by.append(out[:0], p)
						size += len(out)
					}
				}
				b.ReportMetric(float64(len(data))/float64(size), "ratio")
			})
		}
	}
}
