# A program whose debug information is 1.5 million units of a few bytes: small as a file, large once it is read.
.globl main
.type main, @function
main: xorl %eax, %eax
      ret
.size main, .-main
.section .note.GNU-stack,"",@progbits
.section .debug_abbrev,"",@progbits
.Labbrev: .byte 1, 0x11, 0, 0x13, 0x0b, 0, 0, 0
.section .debug_info,"",@progbits
.rept 1500000
.long 9
.short 4
.long .Labbrev
.byte 8, 1, 0x21
.endr
