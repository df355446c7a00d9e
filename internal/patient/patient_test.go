package patient

import (
	"slices"
	"testing"
)

// Whoever does not answer is passed over, and the others are asked.
func TestAsk(t *testing.T) {
	forEver := make(chan bool)
	defer close(forEver)
	var got []int
	silent := Ask([]int{1, 2, 3, 4, 5}, func(id int) int {
		if id == 2 || id == 5 {
			<-forEver
		}
		return 10 * id
	}, func(id, answer int) { got = append(got, id, answer) })
	if want := []int{1, 10, 3, 30, 4, 40}; !slices.Equal(got, want) || silent != 2 {
		t.Errorf("got %v, and %d were silent; want %v", got, silent, want)
	}
}
