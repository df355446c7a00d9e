package packed

import (
	"slices"
	"sync"
)

// Bounds of what a Reader keeps of the frames that it decoded last.
const (
	cacheBytes  = 16 * frameSize
	cacheFrames = 64 // for files with smaller frames
)

// cache keeps decoded frames. A buffer is used again when its frame has left the cache and has
// no readers.
type cache struct {
	mu     sync.Mutex
	blocks []*cachedFrame // the last one was used last
	bytes  int
	free   sync.Pool // of *[]byte
}

// cachedFrame is a frame that is decoded, or is being decoded.
type cachedFrame struct {
	index int
	data  []byte
	ready chan struct{} // closed when data or err is set
	err   error

	readers int  // guarded by the cache
	cached  bool // it is in the cache; guarded by the cache
}

// borrow returns a decoded frame. giveBack must be called when done.
func (r *Reader) borrow(i int) (*cachedFrame, error) {
	b, mine := r.cache.take(i, r.plain(i))
	if mine {
		b.err = r.decode(i, b.data)
		close(b.ready)
	} else {
		<-b.ready
	}
	if b.err != nil {
		r.cache.remove(b) // another try may succeed
		r.cache.giveBack(b)
		return nil, b.err
	}
	return b, nil
}

func (c *cache) find(i int) int {
	return slices.IndexFunc(c.blocks, func(b *cachedFrame) bool { return b.index == i })
}

func (c *cache) has(i int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.find(i) >= 0
}

// take returns the cachedFrame of a frame, and whether the caller has to decode it.
func (c *cache) take(i, size int) (b *cachedFrame, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.find(i); k >= 0 {
		b = c.blocks[k]
		c.blocks = append(slices.Delete(c.blocks, k, k+1), b)
	} else {
		for len(c.blocks) > 0 && (len(c.blocks) == cacheFrames || c.bytes+size > cacheBytes) {
			c.evict(0)
		}
		b = &cachedFrame{index: i, data: c.buffer(size), ready: make(chan struct{}), cached: true}
		c.blocks = append(c.blocks, b)
		c.bytes += size
		mine = true
	}
	b.readers++
	return b, mine
}

func (c *cache) evict(k int) {
	b := c.blocks[k]
	c.blocks = slices.Delete(c.blocks, k, k+1)
	c.bytes -= len(b.data)
	b.cached = false
	c.recycle(b)
}

func (c *cache) remove(b *cachedFrame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.cached {
		c.evict(slices.Index(c.blocks, b))
	}
}

func (c *cache) giveBack(b *cachedFrame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b.readers--
	c.recycle(b)
}

// recycle gives back the buffer of a cachedFrame that is not needed any more.
func (c *cache) recycle(b *cachedFrame) {
	if !b.cached && b.readers == 0 {
		c.free.Put(&b.data)
	}
}

func (c *cache) buffer(size int) []byte {
	if b, _ := c.free.Get().(*[]byte); b != nil && cap(*b) >= size {
		return (*b)[:size]
	}
	return make([]byte, size)
}
