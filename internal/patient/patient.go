// Package patient asks the kernel about many processes. Any of them may keep the caller waiting
// for as long as it likes. It may be executing a program, or its mappings may be locked by a
// thread that waits for a file. Start with Ask.
package patient

import (
	"runtime"
	"sync/atomic"
	"time"
)

// How long an answer, or a step of it, may take.
const (
	Short = 100 * time.Millisecond // while a process may be held, or where many are asked
	Long  = 2 * time.Second        // on a machine that is busy with other work
)

// searchTime is how long all answers together may take.
const searchTime = 3 * time.Second

// Ask calls f for each id, in order, and give with the result, on the calling goroutine. An id
// for which f takes longer than answerTime is passed over; that call of f may go on in the
// background. Ask returns how many were passed over. f calls step whenever the kernel has
// answered, where it asks more than once.
func Ask[ID, T any](answerTime time.Duration, ids []ID, f func(id ID, step func()) T, give func(id ID, answer T)) (silent int) {
	type answer struct {
		i     int
		value T
	}
	for began := time.Now(); len(ids) > 0; {
		if time.Since(began) > searchTime {
			return silent + len(ids)
		}
		answers := make(chan answer, len(ids))
		var steps atomic.Uint64
		step := func() { steps.Add(1) }
		go func(ids []ID) {
			runtime.LockOSThread() // it may be stuck in a system call
			defer runtime.UnlockOSThread()
			for i, id := range ids {
				answers <- answer{i, f(id, step)}
			}
		}(ids)
		next, last, taken := 0, time.Now(), uint64(0)
		late := time.NewTimer(answerTime)
		for next < len(ids) {
			select {
			case a := <-answers:
				next, last = a.i+1, time.Now()
				give(ids[a.i], a.value)
				continue
			case <-late.C:
			}
			if now := steps.Load(); now != taken && time.Since(began) < searchTime {
				taken, last = now, time.Now()
			}
			if rest := answerTime - time.Since(last); rest > 0 {
				late.Reset(rest)
				continue
			}
			next++ // that one does not answer
			silent++
			break
		}
		late.Stop()
		ids = ids[next:]
	}
	return silent
}
