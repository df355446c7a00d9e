package patient

import (
	"slices"
	"testing"
	"time"
)

// Whoever does not answer is passed over, and the others are asked.
func TestAsk(t *testing.T) {
	forEver := make(chan bool)
	defer close(forEver)
	var got []int
	silent := Ask(Short, []int{1, 2, 3, 4, 5}, func(id int, _ func()) int {
		if id == 2 || id == 5 {
			<-forEver
		}
		return 10 * id
	}, func(id, answer int) { got = append(got, id, answer) })
	if want := []int{1, 10, 3, 30, 4, 40}; !slices.Equal(got, want) || silent != 2 {
		t.Errorf("got %v, and %d were silent; want %v", got, silent, want)
	}
}

// Who answers slowly, but goes on answering, is waited for.
func TestSteps(t *testing.T) {
	const steps, enough = 12, time.Second
	silent := Ask(enough, []int{1}, func(_ int, step func()) int {
		for range steps {
			time.Sleep(enough / 10) // the bound itself is what is tested
			step()
		}
		return steps
	}, func(_, answer int) {
		if answer != steps {
			t.Errorf("the answer is %d", answer)
		}
	})
	if silent != 0 {
		t.Errorf("passed over, in %d steps of %v", steps, enough/10)
	}
}
