package packed
import ("testing";"io";"runtime";"os";"strings";"time";"syscall")
func TestMemX(t *testing.T){
 d := sample(8<<20)
 if b, err := os.ReadFile(os.Getenv("REALFILE")); err==nil { d=b }
 runtime.GC(); var a, b runtime.MemStats
 runtime.ReadMemStats(&a)
 w := NewWriter(io.Discard, Options{Workers:2})
 var u0,u1 syscall.Rusage
 syscall.Getrusage(0,&u0); t0:=time.Now()
 n:=0
 for time.Since(t0)<2*time.Second { w.Write(d); n+=len(d) }
 el:=time.Since(t0); syscall.Getrusage(0,&u1)
 runtime.GC(); runtime.ReadMemStats(&b)
 cpu := time.Duration(u1.Utime.Nano()-u0.Utime.Nano()+u1.Stime.Nano()-u0.Stime.Nano())
 t.Logf("live heap +%.2f MiB, total alloc +%.2f MiB, %.0f MB/s wall, %.0f MB/s per cpu, ratio %.2f", float64(b.HeapAlloc-a.HeapAlloc)/(1<<20), float64(b.TotalAlloc-a.TotalAlloc)/(1<<20), float64(n)/1e6/el.Seconds(), float64(n)/1e6/cpu.Seconds(), float64(n)/float64(w.Written()))
 w.Close()
 s,_:=os.ReadFile("/proc/self/status"); for l := range strings.Lines(string(s)) { if strings.HasPrefix(l,"VmHWM") {t.Log(l)} }
}
