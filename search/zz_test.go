package search
import ("testing")
func BenchmarkDense(b *testing.B) {
	for name, p := range map[string][]Pattern{"u32": {must(ParseValue(U32, "0", ValueOptions{}))}, "lit": {must(Literal([]byte{0,0}, false))}, "re": {must(ParseRegexp(`\x00{4}`, false))}} {
	b.Run(name, func(b *testing.B) {
	s := must(New(p, Options{}))
	defer processorTime(b, 64<<20)()
	n := 0
	for b.Loop() {
		for range s.Matches(b.Context(), zeros{64<<20}) { n++ }
	}
	b.ReportMetric(float64(n)/float64(b.N), "matches")
	})}
}
