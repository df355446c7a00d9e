package lines

import "container/list"

// Cache bounds what several Programs keep in memory, and how much work they may have. It and
// its Programs must not be used by several goroutines at once.
type Cache struct {
	room  int64 // bytes that may be kept
	left  int64 // bytes that may still be looked at
	order list.List
	items map[cacheKey]*list.Element
}

// cacheKey is something of a unit.
type cacheKey struct {
	of   any // what the unit is of
	off  uint64
	what byte
}

type cached struct {
	key  cacheKey
	data any
	cost int64
}

// NewCache returns a Cache of about room bytes, for work on so many bytes of files altogether.
func NewCache(room, work int64) *Cache {
	return &Cache{room: room, left: work, items: map[cacheKey]*list.Element{}}
}

// get returns what is kept under key, or makes it. The newest is always kept.
func get[T any](c *Cache, key cacheKey, read func() (T, int64, error)) (T, error) {
	if e, ok := c.items[key]; ok {
		c.order.MoveToFront(e)
		return e.Value.(cached).data.(T), nil
	}
	data, cost, err := read()
	if err != nil {
		return data, err
	}
	c.items[key] = c.order.PushFront(cached{key, data, cost})
	for c.room -= cost; c.room < 0 && c.order.Len() > 1; {
		c.drop(c.order.Back())
	}
	return data, nil
}

func (c *Cache) drop(e *list.Element) {
	old := c.order.Remove(e).(cached)
	delete(c.items, old.key)
	c.room += old.cost
}

// forget drops all that is of one thing.
func (c *Cache) forget(of any) {
	for key, e := range c.items {
		if key.of == of {
			c.drop(e)
		}
	}
}
