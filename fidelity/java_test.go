package fidelity

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/procmem/procmem"
	"github.com/procmem/procmem/internal/testproc"
)

// A heap of Java by ZGC is a memfd that is mapped three times. One thread stamps
// pages of an array in order, others wait. The heap has so much room that nothing is
// ever collected: jhsdb does not find what has been moved.
const javaProgram = `
import java.lang.invoke.*;
import java.util.concurrent.locks.*;
public class Stamps {
  public static void main(String[] args) throws Exception {
    final int words = 512, pages = 12288;
    final long[] memory = new long[words * pages];
    final VarHandle at = MethodHandles.arrayElementVarHandle(long[].class);
    for (int i = 0; i < pages; i++) memory[i * words + 1] = 0x6a61766173746100L + i;
    for (int i = 0; i < 8; i++) {
      Thread t = new Thread(() -> { for (;;) LockSupport.park(); }, "parked-" + i);
      t.setDaemon(true);
      t.start();
    }
    final long[] swept = new long[1];
    Thread t = new Thread(() -> {
      for (long v = 1;; v++) {
        for (int i = 0; i < pages; i++) at.setRelease(memory, i * words, v);
        swept[0] = v;
      }
    }, "stamps");
    t.setDaemon(true);
    t.start();
    Thread.sleep(1000);
    System.out.println("ready");
    System.out.flush();
    System.in.read();
  }
}
`

const (
	javaMagic   = 0x6a61766173746100
	javaPages   = 12288
	javaTimeout = 4 * time.Minute // for one look of jhsdb
)

// A core of a Java program whose heap is shared memory is of one moment, by each
// method of which that can be, and shows its threads.
func TestJavaZGC(t *testing.T) {
	t.Parallel()
	java, javac, jhsdb := need(t, "java"), need(t, "javac"), need(t, "jhsdb")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Stamps.java"), []byte(javaProgram), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, javac, "-d", dir, filepath.Join(dir, "Stamps.java")).ok(t)
	p := startReady(t, exec.Command(java, "-XX:+UseZGC", "-XX:-ZProactive", "-Xms1g", "-Xmx1g", "-cp", dir, "Stamps"))
	exe, err := os.Readlink("/proc/" + strconv.Itoa(p.PID()) + "/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"stop", "precopy", "auto", "fork"} {
		t.Run(method, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "core")
			out := run(t, procmemPath(), "core", "--method", method, "-o", path, strconv.Itoa(p.PID()))
			if out.status != 0 {
				t.Fatalf("status %d: %s", out.status, out.stderr)
			}
			c := open(t, path+"."+strconv.Itoa(p.PID()))
			report := c.Report()
			bases, heap := javaArrays(t, c)
			if len(bases) == 0 {
				t.Fatal("the array is not in the core")
			}
			torn := false
			for _, r := range report.Torn {
				torn = torn || heap.Start < r.End && r.Start < heap.End
			}
			for _, base := range bases {
				steps, err := testproc.CheckWitness(func(a procmem.Addr, b []byte) error {
					_, err := c.ReadAt(b, a)
					return err
				}, base, javaPages)
				if err != nil || steps > 1 && (!torn || report.Consistent) {
					t.Errorf("%v: %d steps, %v; %+v", base, steps, err, report)
				}
			}
			if torn != (report.Method == "fork") {
				t.Errorf("the heap is torn: %v; %+v", torn, report)
			}
			jstack, err := runFor(t, min(javaTimeout, patience(t)), exec.Command(jhsdb, "jstack", "--exe", exe, "--core", c.path))
			if n := strings.Count(jstack.stdout, `"parked-`); err != nil || n != 8 {
				t.Errorf("jhsdb finds %d threads of 8: %v, %.2000s", n, err, jstack.stderr)
			}
		})
	}
}

// javaArrays finds the array in all mappings of the heap.
func javaArrays(t *testing.T, c *corefile) (bases []procmem.Addr, heap procmem.Range) {
	t.Helper()
	maps, err := c.Mappings()
	if err != nil {
		t.Fatal(err)
	}
	for i := range maps {
		if m := &maps[i]; strings.Contains(m.Path, "java_heap") {
			if heap.Empty() {
				heap = m.Range
			}
			bases = append(bases, javaArraysIn(t, c, m.Range)...)
		}
	}
	return bases, heap
}

func javaArraysIn(t *testing.T, c *corefile, r procmem.Range) (bases []procmem.Addr) {
	t.Helper()
	magic := binary.LittleEndian.AppendUint64(nil, javaMagic)
	buf := make([]byte, 1<<20)
	for d, err := range c.Data(r) {
		if err != nil {
			t.Fatal(err)
		}
		for a := d.Start; a < d.End; a += procmem.Addr(len(buf)) {
			n, _ := c.ReadAt(buf[:min(uint64(len(buf)), uint64(d.End-a))], a)
			for at := 0; ; at += 8 {
				k := bytes.Index(buf[at:n], magic)
				if k < 0 {
					break
				}
				at += k
				found := a + procmem.Addr(at)
				var next [8]byte
				if _, err := c.ReadAt(next[:], found+procmem.PageSize); err == nil && binary.LittleEndian.Uint64(next[:]) == javaMagic+1 {
					bases = append(bases, found-8)
				}
			}
		}
	}
	return bases
}
