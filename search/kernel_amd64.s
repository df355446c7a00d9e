#include "textflag.h"

// func pairAVX2(b []byte, gap int, v1, m1, v2, m2 byte) int
//
// The length of b without the gap is at least 32. The last 32 places overlap
// those before them, which have been found not to match. What was read lies in
// the second cache or behind it, and the processor by itself does not fetch it
// from there beyond the end of a page.
TEXT ·pairAVX2(SB), NOSPLIT, $0-48
	MOVQ b_base+0(FP), SI
	MOVQ b_len+8(FP), CX
	MOVQ gap+24(FP), DX
	SUBQ DX, CX
	VPBROADCASTB v1+32(FP), Y0
	VPBROADCASTB m1+33(FP), Y1
	VPBROADCASTB v2+34(FP), Y2
	VPBROADCASTB m2+35(FP), Y3
	LEAQ (SI)(DX*1), DI // the second byte
	XORQ AX, AX
	MOVQ CX, R8
	SUBQ $64, R8
	JL   last

loop:
	PREFETCHT0 1024(SI)(AX*1)
	VPAND     (SI)(AX*1), Y1, Y4
	VPAND     (DI)(AX*1), Y3, Y5
	VPCMPEQB  Y0, Y4, Y4
	VPCMPEQB  Y2, Y5, Y5
	VPAND     Y4, Y5, Y4
	VPAND     32(SI)(AX*1), Y1, Y6
	VPAND     32(DI)(AX*1), Y3, Y7
	VPCMPEQB  Y0, Y6, Y6
	VPCMPEQB  Y2, Y7, Y7
	VPAND     Y6, Y7, Y6
	VPOR      Y4, Y6, Y8
	VPMOVMSKB Y8, BX
	TESTL     BX, BX
	JNZ       found
	ADDQ      $64, AX
	CMPQ      AX, R8
	JLE       loop

last:
	// Fewer than 64 places are left: one or two times 32.
	MOVQ CX, R8
	SUBQ $32, R8
	CMPQ AX, CX
	JGE  none

half:
	CMPQ      AX, R8
	CMOVQGT   R8, AX
	VPAND     (SI)(AX*1), Y1, Y4
	VPAND     (DI)(AX*1), Y3, Y5
	VPCMPEQB  Y0, Y4, Y4
	VPCMPEQB  Y2, Y5, Y5
	VPAND     Y4, Y5, Y4
	VPMOVMSKB Y4, BX
	TESTL     BX, BX
	JNZ       first
	ADDQ      $32, AX
	CMPQ      AX, CX
	JLT       half

none:
	MOVQ $-1, ret+40(FP)
	VZEROUPPER
	RET

found:
	VPMOVMSKB Y4, BX
	TESTL     BX, BX
	JNZ       first
	VPMOVMSKB Y6, BX
	ADDQ      $32, AX

first:
	BSFL BX, BX
	ADDQ BX, AX
	MOVQ AX, ret+40(FP)
	VZEROUPPER
	RET

// The loops below are the same but for the size of a number: how far each is
// from the first, modulo 2^n, is compared with how far the last one is. The
// length of b is a multiple of 32, and is not 0.

#define RANGE(NAME, BROADCAST, SUB, MIN, EQUAL) \
TEXT NAME(SB), NOSPLIT, $0-48 \
	MOVQ b_base+0(FP), SI \
	MOVQ b_len+8(FP), CX \
	BROADCAST first+24(FP), Y0 \
	BROADCAST more+32(FP), Y1 \
	XORQ AX, AX \
	MOVQ CX, R8 \
	SUBQ $96, R8 \
loop: \
	CMPQ AX, R8 \
	JGE  tail \
	VMOVDQU (SI)(AX*1), Y2 \
	VMOVDQU 32(SI)(AX*1), Y3 \
	VMOVDQU 64(SI)(AX*1), Y4 \
	VMOVDQU 96(SI)(AX*1), Y5 \
	SUB Y0, Y2, Y2 \
	SUB Y0, Y3, Y3 \
	SUB Y0, Y4, Y4 \
	SUB Y0, Y5, Y5 \
	MIN Y1, Y2, Y6 \
	MIN Y1, Y3, Y7 \
	MIN Y1, Y4, Y8 \
	MIN Y1, Y5, Y9 \
	EQUAL Y6, Y2, Y2 \
	EQUAL Y7, Y3, Y3 \
	EQUAL Y8, Y4, Y4 \
	EQUAL Y9, Y5, Y5 \
	VPOR Y2, Y3, Y6 \
	VPOR Y4, Y5, Y7 \
	VPOR Y6, Y7, Y6 \
	VPTEST Y6, Y6 \
	JNZ  tail \
	ADDQ $128, AX \
	JMP  loop \
tail: \
	CMPQ AX, CX \
	JGE  none \
	VMOVDQU (SI)(AX*1), Y2 \
	SUB Y0, Y2, Y2 \
	MIN Y1, Y2, Y6 \
	EQUAL Y6, Y2, Y2 \
	VPMOVMSKB Y2, BX \
	TESTL BX, BX \
	JNZ  found \
	ADDQ $32, AX \
	JMP  tail \
none: \
	MOVQ $-1, ret+40(FP) \
	VZEROUPPER \
	RET \
found: \
	BSFL BX, BX \
	ADDQ BX, AX \
	MOVQ AX, ret+40(FP) \
	VZEROUPPER \
	RET

// func range8AVX2(b []byte, first, more uint64) int
RANGE(·range8AVX2, VPBROADCASTB, VPSUBB, VPMINUB, VPCMPEQB)

// func range16AVX2(b []byte, first, more uint64) int
RANGE(·range16AVX2, VPBROADCASTW, VPSUBW, VPMINUW, VPCMPEQW)

// func range32AVX2(b []byte, first, more uint64) int
RANGE(·range32AVX2, VPBROADCASTD, VPSUBD, VPMINUD, VPCMPEQD)

DATA sign<>+0(SB)/8, $0x8000000000000000
GLOBL sign<>(SB), RODATA, $8

// func range64AVX2(b []byte, first, more uint64) int
//
// There is no comparison of unsigned numbers of this size: with the sign bit
// inverted, that of signed ones does. Y6 is what is out of the range.
TEXT ·range64AVX2(SB), NOSPLIT, $0-48
	MOVQ b_base+0(FP), SI
	MOVQ b_len+8(FP), CX
	VPBROADCASTQ first+24(FP), Y0
	VPBROADCASTQ more+32(FP), Y1
	VPBROADCASTQ sign<>(SB), Y10
	VPXOR Y10, Y1, Y1
	VPXOR Y10, Y0, Y0 // x - (first^sign) is (x-first)^sign
	XORQ AX, AX
	MOVQ CX, R8
	SUBQ $32, R8

loop:
	CMPQ     AX, R8
	JGE      tail
	VMOVDQU  (SI)(AX*1), Y2
	VMOVDQU  32(SI)(AX*1), Y3
	VPSUBQ   Y0, Y2, Y2
	VPSUBQ   Y0, Y3, Y3
	VPCMPGTQ Y1, Y2, Y2
	VPCMPGTQ Y1, Y3, Y3
	VPAND    Y2, Y3, Y4
	VPMOVMSKB Y4, BX
	CMPL     BX, $-1
	JNE      tail
	ADDQ     $64, AX
	JMP      loop

tail:
	CMPQ      AX, CX
	JGE       none
	VMOVDQU   (SI)(AX*1), Y2
	VPSUBQ    Y0, Y2, Y2
	VPCMPGTQ  Y1, Y2, Y2
	VPMOVMSKB Y2, BX
	NOTL      BX
	TESTL     BX, BX
	JNZ       found
	ADDQ      $32, AX
	JMP       tail

none:
	MOVQ $-1, ret+40(FP)
	VZEROUPPER
	RET

found:
	BSFL BX, BX
	ADDQ BX, AX
	MOVQ AX, ret+40(FP)
	VZEROUPPER
	RET

DATA printable<>+0(SB)/1, $0x20 // blank, and from there
DATA printable<>+1(SB)/1, $0x5e // to the tilde
DATA printable<>+2(SB)/1, $0x09
GLOBL printable<>(SB), RODATA, $3

// func printableAVX2(bits []uint64, b []byte, high byte)
//
// There is at least one of bits, and 64 bytes of b for each.
TEXT ·printableAVX2(SB), NOSPLIT, $0-49
	MOVQ bits_base+0(FP), DI
	MOVQ bits_len+8(FP), CX
	MOVQ b_base+24(FP), SI
	VPBROADCASTB printable<>+0(SB), Y0
	VPBROADCASTB printable<>+1(SB), Y1
	VPBROADCASTB printable<>+2(SB), Y2
	VPBROADCASTB high+48(FP), Y3

loop:
	VMOVDQU (SI), Y4
	VMOVDQU 32(SI), Y5
	VPSUBB Y0, Y4, Y6
	VPSUBB Y0, Y5, Y7
	VPMINUB Y1, Y6, Y8
	VPMINUB Y1, Y7, Y9
	VPCMPEQB Y8, Y6, Y6
	VPCMPEQB Y9, Y7, Y7
	VPCMPEQB Y2, Y4, Y8
	VPCMPEQB Y2, Y5, Y9
	VPAND Y3, Y4, Y4
	VPAND Y3, Y5, Y5
	VPOR Y4, Y6, Y6
	VPOR Y5, Y7, Y7
	VPOR Y8, Y6, Y6
	VPOR Y9, Y7, Y7
	VPMOVMSKB Y6, AX
	VPMOVMSKB Y7, BX
	SHLQ $32, BX
	ORQ BX, AX
	MOVQ AX, (DI)
	ADDQ $64, SI
	ADDQ $8, DI
	DECQ CX
	JNZ  loop
	VZEROUPPER
	RET
