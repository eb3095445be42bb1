"""Expressions over the program's variables, each operator on each kind of operand."""

from __future__ import annotations

INTEGERS = [
    "s.low", "s.delta", "s.wide", "s.flag", "s.c", "s.sc", "s.uc", "s.sh", "s.us", "s.i", "s.u",
    "s.l", "s.ul", "s.ll", "s.ull", "s.b", "s.colour", "s.level", "s.address", "number", "state",
    "fixed", "GREEN", "LOW", "UNNAMED_CONSTANT", "RUN_SECOND", "'a'", "7", "-1", "3u", "2l", "5ul",
    "0xffffffff", "0x80000000", "2147483648", "0x8000000000000000", "017", "0b11", "zero",
]  # fmt: skip
FLOATS = ["s.f", "s.d", "1.5", "2.5f", "f", "d", "1e3", ".5", "0x1.8p3"]
POINTERS = [
    "s.p", "s.v", "s.name", "s.arr", "s.self", "sp", "&s", "&s.arr", "&s.arr[2]", "s.handler",
    "handle", "&handle", "s.indirect", "words", "s.opaque", "s.grid", "s.grid[1]", "(char *)0",
]  # fmt: skip
STRUCTS = ["s", "*sp", "s.point", "elements[1]", "*s.opaque"]

UNARY = ["+", "-", "~", "!", "*", "&", "sizeof ", "(char)", "(unsigned char)", "(short)",
         "(int)", "(unsigned)", "(long)", "(unsigned long)", "(_Bool)", "(float)", "(double)",
         "(void *)", "(int *)", "(enum Colour)", "(hwaddr)", "(Number)"]  # fmt: skip
BINARY = ["+", "-", "*", "/", "%", "<<", ">>", "&", "|", "^", "==", "!=", "<", "<=", ">", ">=",
          "&&", "||", ","]  # fmt: skip

SOME = ["s.low", "s.delta", "s.wide", "s.c", "s.uc", "s.sh", "s.us", "s.i", "s.u", "s.l", "s.ul",
        "s.colour", "s.level", "s.b", "'a'", "7", "-1", "3u", "5ul", "zero", "1.5", "s.f",
        "s.p", "s.arr", "s.v", "s.self", "s"]  # fmt: skip
"""Operands for every pair with every operator."""

FORMS = """
s.arr[0]
s.arr[3]
s.arr[7]
s.arr[-1]
s.arr[1.5]
s.arr[one]
2[s.arr]
s.grid[1][2]
*s.grid[1]
*(s.grid[1] + 1)
*s.arr
*&s.sh
&*sp
&sp->arr[2]
&sp->p
&sp->point.y
&s.point
sp.arr
s->arr
s->self->self.self->i
s.indirect.i
s.indirect->arr[1]
(*s.indirect)->i
(**s.indirect).i
elements[1].number
elements->number
elements.number
head.lh_first->link.le_next->number
head->lh_first.link->le_next.tail
*head.lh_first
&head.lh_first->tail
s.opaque->secret
s.opaque->next->secret
*s.opaque->next
s.opaque->next->next
*s.opaque->next->next
s.first
s.second
s.whole
s.self->first
s.point.x
words[1]
*words[2]
words[2][1]
words[1] - words[0]
&words[2] - words
s.text
s.text[1]
&s.text
*s.text
s.name[2]
s.handler
*s.handler
**s.handler
&*s.handler
handle
&handle
*handle
handle == s.handler
handle + 1
main
'main'
'main.c'::current
'other.c'::current
'other.c'::only_here
only_here
'main.c'::s.i
'main.c'::handle
handle::handled
make_opaque::made
'other.c'::make_opaque::made
'main.c'::handle::handled
s.arr@2
s.arr[1]@2
*s.arr@3
s.arr[0]@0
s.arr[0]@-1
1@2
s.arr[0]+1@2
(short)7@2
s.self[0]
s.self[0].i
s.self@1
*s.v
*1
*zero
s.nosuch
sp->nosuch
nosuch
S
struct S
int
nosuch.x
(nosuch)1
(nosuch *)1
(struct nosuch)1
(struct nosuch *)0
handle(1)
s.i = 1
s.i++
$nosuch1 + 1
s.arr[
1 +
)
s..i
1 2
08
1z
1.5.5
''
'unended
1 ? 2
1 ? 2 : 3l
zero ? 2 : 3l
one ? s.p : 0
one ? two : 3
zero && nosuch
one || s.nosuch
1, 2, 3
(1, 2)
(s.i, s.l)
1 + 2 * 3 - 4 / 2 % 3
1 << 2 + 3
1 | 2 ^ 3 & 4
7 & 3 == 3
!1 + 1
- - 1
-~-1
!!5
1 > 2 > 3
3 > 2 > 1
5 - 3 - 1
100 / 10 / 5
2 * 3 % 4
1 ? 0 ? 1 : 2 : 3
1 == 1 ? 5 : 6
(int)1.9
(int)-1.9
(unsigned char)300
(signed char)200
(_Bool)5
(_Bool)0.5
(enum Colour)5
(enum Level)-1
(float)1.1
(double)s.f
(int *)4
(int *)-1
(char)s.arr
(int)s.p
(unsigned long)handle
(long)&s
(void)0
(void (*)(int))0
(int (*)(int))handle
(struct S *)s.v
((struct S *)&s)->i
((struct Element *)&elements[1])->number
*(int *)&s.i
*(short *)&s.i
*(unsigned char *)&s.l
(char (*)[4])s.p
*(char (*)[4])s.p
(*(char (*)[4])s.p)[1]
(int (*)[2])s.arr
(const char *)s.name
(char const *)s.name
(char const * const)s.name
(unsigned)1
(long unsigned int)1
(unsigned long int)1
(int unsigned)1
(long long)1
(short int)1
(signed)1
(Opaque *)0
((Opaque *)s.opaque)->secret
(hwaddr)-1
(Number)1.5
(Number) + 1
(number) + 1
(hwaddr) - 1
(hwaddr)(1)
(hwaddr)&s
(hwaddr)*s.p
(number) - 1
(number) & 1
(number) * 2
(struct S)s
(struct S)s.arr
(int)s
(int)s.point
(struct Element)s
{int}&s.i
{int}(&s.arr[1])
{short}&s.i
{struct S}sp
{struct S *}&sp
{char [4]}s.text
sizeof(int)
sizeof(char)
sizeof(struct S)
sizeof(struct S *)
sizeof(Opaque)
sizeof(struct Opaque)
sizeof(int[3])
sizeof(int *[3])
sizeof(char (*)[16])
sizeof(void (*)(int, char *))
sizeof(hwaddr)
sizeof(number)
sizeof number
sizeof s
sizeof(s)
sizeof s.arr
sizeof s.arr[0]
sizeof(*s.v)
sizeof(void)
sizeof(handle)
sizeof *s.opaque->next->next
sizeof ((struct S *)0)->arr
sizeof(int) * 2
sizeof(int) - 5
sizeof 1 + 1
sizeof(1 / 0)
sizeof "abc"
sizeof 'a'
sizeof(enum Colour)
sizeof(RunState)
&((struct S *)0)->arr
&((struct S *)0)->point.y
(long)&((struct S *)0)->grid[1][1]
"abc"
"abc"[1]
"a" == 1
"\\x41\\102"
'\\n'
'\\0'
'\\377'
'\\x41'
'\\''
'"'
1/0
1%0
1.0/0
-1.0/0
1.5 % 1
1.5 & 1
1.5 << 1
~1.5
!1.5
1 << 31
1 << 32
1 << 64
1l << 63
1 << -1
-1 >> 40
5 >> 40
-5 >> 1
-5 / 2
-5 % 2
5 % -3
2147483647 + 1
2147483647 * 2
9223372036854775807 + 1
-2147483648
18446744073709551615
18446744073709551616
i + 1
minus - 1
-minus
u + i
u * u
ul + 1
l - 1
ul * ul
uc << 24
sh * sh
us * us
f + f
f * d
f + 1
f * i
f * ul
f == 0.1
d / 3
-f
ul + f
""".strip().splitlines()


def expressions() -> list[str]:
    """Return all of them, some two thousand."""
    found = list(FORMS)
    for operator in UNARY:
        found += [operator + operand for operand in INTEGERS + FLOATS + POINTERS + STRUCTS]
    for operator in BINARY:
        found += [f"{left} {operator} {right}" for left in SOME for right in SOME]
    return list(dict.fromkeys(found))
