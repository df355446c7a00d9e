package process

import (
	"reflect"
	"strings"
	"testing"
)

func TestStates(t *testing.T) {
	for state, zombie := range map[byte]bool{'S': false, 'Z': true, 'X': true, 't': false} {
		if st := (&Stat{State: state}); st.Zombie() != zombie || st.KernelThread() || st.Forked() || st.Exiting() {
			t.Errorf("state %c: %+v", state, st)
		}
	}
	for flags, want := range map[uint64][3]bool{0x200000: {true}, 0x40: {false, true}, 0x4: {false, false, true}} {
		st := &Stat{State: 'S', Flags: flags}
		if got := [3]bool{st.KernelThread(), st.Forked(), st.Exiting()}; got != want {
			t.Errorf("flags %#x: %v, want %v", flags, got, want)
		}
	}
	if inner := (&Status{NSPID: []int{43, 4, 2}}).InnerPID(); inner != 2 {
		t.Errorf("the innermost id is %d", inner)
	}
	if inner := (&Status{}).InnerPID(); inner != 0 {
		t.Errorf("the innermost id is %d where there is none", inner)
	}
}

// The documentation of this package shows the fields of its types.
func TestTypesAreOurs(t *testing.T) {
	for _, typ := range []reflect.Type{reflect.TypeFor[Stat](), reflect.TypeFor[Status](), reflect.TypeFor[Syscall]()} {
		if !strings.HasSuffix(typ.PkgPath(), "/process") {
			t.Errorf("%v is of %s", typ, typ.PkgPath())
		}
	}
}
