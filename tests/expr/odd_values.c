/* Values of every kind that C has and gdb prints in a way of its own. */

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <uchar.h>
#include <wchar.h>

typedef struct Device Device;
typedef struct Queue Queue;
typedef void Handler(Device *, Queue *);
typedef int Reported(const char *, ...);
typedef char *Name;
typedef uint8_t Mac[6];
typedef uint64_t hwaddr;
typedef int (*Compare)(const void *, const void *);
typedef struct { int x, y; } Point;
typedef Point *PointPointer;
typedef const volatile Point Frozen;

enum Plain { PLAIN_A, PLAIN_B, PLAIN_D = 3 };
enum Flags { FLAG_A = 1, FLAG_B = 2, FLAG_D = 8 };
enum FlagsNone { NONE = 0, ONE = 1, TWO = 2, FOUR = 4 };
enum FlagsMulti { M_A = 1, M_B = 2, M_CD = 12, M_ALL = 15 };
enum FlagsGap { G_A = 1, G_BD = 10 };
enum FlagsTwice { T_A = 1, T_ALSO = 1, T_B = 2 };
enum Negative { MINUS = -1, ZERO, PLUS };
enum Wide { WIDE_LOW = 1, WIDE_HIGH = 0x100000000 };
enum __attribute__((packed)) Narrow { NARROW = 200, NARROWER = 100 };
typedef enum { ANON_A = 1, ANON_B = 2, ANON_C = 4 } AnonFlags;

struct Bits {
    unsigned a : 3;
    int b : 5;
    _Bool c : 1;
    enum Flags d : 4;
    uint8_t e : 1;
    char f : 3;
    int64_t g : 40;
    enum Plain h : 2;
    int : 3;
    uint64_t i : 24;
};

struct Holes {
    char a;
    int b;
    short c;
    struct { char d; double e; } inner;
    union { int f; char g[9]; long h; } u;
    struct { struct { int deep; } deeper; union { int p; float q; }; };
    unsigned i : 3;
    unsigned j : 7;
    char k;
    Point point;
    struct Bits bits;
    Handler *handler;
    int (*table[3])(void);
    char (*row)[4];
    int grid[2][3];
    const char *const names[2];
    char last;
};

struct __attribute__((packed)) Packed { char a; int b; short c; };
struct Empty { };
struct Nest { struct Nest *next; struct Empty none; int zero[0]; int flexible[]; };
struct Text { int size; char text[]; };
struct TagOnly;
struct Pointers {
    struct TagOnly *opaque;
    void *nothing;
    const void *constant;
    char *text;
    const unsigned char *bytes;
    signed char *small;
    Name name;
    int *number;
    int **twice;
    int *volatile *const thrice;
    Handler *handler;
    void (*plain)();
    int (*strict)(void);
    Reported *reported;
    Compare compare;
    Handler **handlers;
    char *(*returns_text)(char *(*)(int), int[3]);
    int (*(*returns_function)(int))(char);
    struct Pointers *self;
    enum Flags *flags;
    _Bool *truth;
    double *real;
    char16_t *utf16;
    char (*text_array)[4];
    uint8_t *octets;
    int8_t *signed_octets;
};

struct Device { int id; Handler *handle; struct Text text; };
struct Queue { Device *device; uint16_t index; };

int number = -5;
unsigned int positive = 4000000000u;
long long_number = -1234567890123;
unsigned long long huge = 18446744073709551615ull;
__int128 wide = ((__int128)-1 << 100) + 7;
unsigned __int128 wide_unsigned = (unsigned __int128)-1;
short small_number = -3;
char letter = 'A', zero_letter = 0, newline = '\n', quote = '\'', double_quote = '"';
char backslash = '\\', escape = 27, high = (char)0xe9, bell = '\a', delete_ = 127;
unsigned char byte = 200, byte_letter = 'z';
signed char signed_byte = -100;
uint8_t octet = 7;
int8_t signed_octet = -7;
_Bool yes = 1, no = 0;
bool damaged_bool;
float single = 3.14159274f, tiny = 1e-40f, single_whole = 2.0f;
double real = 0.1, whole = 100, big = 1e300, not_a_number, infinite, minus_infinite, minus_zero = -0.0;
long double precise = 0.1L, long_whole = 3, long_big = 1e4000L, long_nan;
_Complex double complex_number = 1.5 + 2.5 * 1.0i;
_Complex float complex_float = 1 - 1.0i;
wchar_t wide_letter = L'x';
char16_t letter16 = u'y';
char32_t letter32 = U'z';
wchar_t wide_text[8] = L"wide";
char16_t text16[8] = u"sixteen";
char32_t text32[4] = U"32";
hwaddr guest_address = 0x123456789;
size_t size = 12;
enum Plain plain = PLAIN_B, plain_unknown = 2;
enum Flags flags = 3, flags_all = 11, flags_unknown = 12, flags_none = 0, flags_only_unknown = 4;
enum FlagsNone flags_zero = 0, flags_five = 5, flags_sixteen = 16, flags_seventeen = 17;
enum FlagsMulti multi = 7, multi_cd = 12, multi_some = 4, multi_more = 21, multi_five = 5;
enum FlagsGap gap = 11, gap_some = 2, gap_one = 1;
enum FlagsTwice twice = 3, twice_one = 1;
enum Negative negative = MINUS, negative_unknown = -7;
enum Wide wide_flags = 0x100000001, wide_unknown = 0x300000000;
enum Narrow narrow = 200, narrow_unknown = 3;
AnonFlags anon_flags = 6;
enum Plain plain_array[4] = { 0, 1, 2, 3 };
volatile int counter = 9;
_Atomic int atomic_counter = 10;
const int constant = 11;
int *volatile volatile_pointer = &number;

char text[16] = "hello";
char exact[5] = "hello";
char empty[16];
char one_nul[1];
char digits[12] = "\0011\0022x\0379";
char repeats[64] = "aaaaaaaaaaaaaaaaaaaaabcdddddddddddd";
char edge_repeats[48] = "aaaaaaaaaabbbbbbbbbbbcccccccccc";
char mixed[40] = "x\0\0\0\0\0\0\0\0\0\0\0\0\0y\1\1\1\1\1\1\1\1\1\1\1\1\1\1z";
char quotes[24] = "a\"b'c\\d\te\r\n\a\b\f\v\033";
char many_quotes[40] = "\"\"\"\"\"\"\"\"\"\"\"\"\"''''''''''''''''";
char utf8[24] = "gr\303\274n \344\270\255 \360\237\230\200";
char broken_utf8[16] = "\303(\377\376x\344\270";
char cut_utf8[3] = "\303\344\270";
char control_utf8[12] = "\302\2057";
unsigned char invalid[24] = { 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1 };
char long_text[300];
char long_distinct[300];
char long_pattern[450];
char two_hundred[200];
char two_hundred_one[201];
Mac mac = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };
uint8_t octets[32];
int8_t signed_octets[4] = { 1, -1, 65, 0 };
char lines[3][8] = { "one", "two", "" };
char same_lines[12][4];
uint16_t words[6] = { 1, 1, 1, 2, 2 };
int ints[16];
int many_ints[300];
int distinct_ints[300];
int ten_same[10] = { 5, 5, 5, 5, 5, 5, 5, 5, 5, 5 };
int eleven_same[12] = { 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 6 };
int matrix[20][30];
int distinct_matrix[20][30];
int cube[3][3][3];
Point points[15];
Point distinct_points[210];
struct { int a[150]; int b[150]; } halves;
struct { char a[150]; char b[150]; } text_halves;
double reals[3] = { 1, 2.5, -0.125 };
int no_ints[0];
struct Nest nest;
struct { int n; Point none[0]; } zero_length;
struct Empty nothing;
struct Empty nothings[3];
char *strings[5] = { "first", 0, "", "second with \"quotes\"", "\303\251\377" };
const char *same_strings[12];
char *long_string = long_text;
char *distinct_string = long_distinct;
char *pattern_string = long_pattern;
char *string_200 = two_hundred;
char *bad_string = (char *)8;
const char *const_string = "constant";
volatile char *volatile_string = text;
unsigned char *byte_string = (unsigned char *)"bytes";
uint8_t *octet_string = (uint8_t *)"octets";
Name named_string = "named";
const Name const_named_string = "const named";
wchar_t *wide_string = L"wide \u4e2d";
char16_t *string16 = u"sixteen";
void *void_pointer = &number;
const void *const_void_pointer;
void *null_pointer;
int *int_pointer = &ints[3];
int *bad_pointer = (int *)0x10;
Point *point_pointer = &points[1];
PointPointer typedef_pointer = &points[2];
Frozen frozen = { 1, 2 };
Frozen *frozen_pointer = &frozen;
char (*array_pointer)[16] = &text;
int (*matrix_pointer)[20][30] = &matrix;
struct Text *text_pointer;
struct TagOnly *opaque_pointer = (struct TagOnly *)&number;
enum Flags *flags_pointer = &flags;
void *function_void;
void *inside_function;
void *array_of_pointers[4] = { &number, 0, text + 3, (void *)0x1234 };
static int hidden = 77;
void *hidden_pointer = &hidden;

union Mixed { int i; float f; char c[4]; struct { short low, high; } s; } mixed_union = { 0x41424344 };
struct Bits bits = { 5, -3, 1, FLAG_A | FLAG_D, 1, -1, -12345678901, PLAIN_D, 0xabcdef };
struct Bits bits_array[2];
struct Holes holes;
struct Packed packed = { 1, 2, 3 };
struct Pointers pointers;
struct Pointers no_pointers;
struct { struct { struct { int leaf; } c; } b; union { int i; char c; }; int z; } anonymous;
struct D1 { struct { struct { struct { struct { struct { struct { struct { struct { struct { struct {
    struct { struct { struct { struct { struct { struct { struct { struct { struct { struct { struct {
    int bottom; } u; } t; } s; } r; } q; } p; } o; } n; } m; } l; } k; } j; } i; } h; } g; } f; } e; }
    d; } c; } b; } a; } deep;
typedef int Vector __attribute__((vector_size(16)));
Vector vector = { 1, 2, 3, 4 };
Device device;
Queue queue = { &device, 3 };
struct Text real_text;
long unaligned_pad;

static void handle(Device *d, Queue *q) { d->id += q->index; }
static int strict(void) { return hidden; }
int report(const char *format, ...) { return format[0]; }
void old_style() { hidden++; }
static int compare(const void *a, const void *b) { return a < b; }
char *returns_text(char *(*f)(int), int a[3]) { return f(a[0]); }
Handler *handler = handle;
Reported *reporter = report;
void (*old_pointer)() = old_style;
int (*strict_pointer)(void) = strict;
Compare compare_pointer = compare;
char *(*text_function)(char *(*)(int), int[3]) = returns_text;
int (*(*nested_function)(int))(char);
Handler *handlers[4] = { handle, handle, 0, handle };
Handler **handlers_pointer = handlers;
void *(*library_function)(void *, const void *, size_t) = memcpy;

static void fill(void)
{
    for (int i = 0; i < 300; i++) {
        long_text[i] = 'x';
        long_distinct[i] = 'a' + i % 26;
        distinct_ints[i] = i;
        many_ints[i] = i < 250 ? i / 25 : i;
    }
    for (int i = 0; i < 450; i++)
        long_pattern[i] = i % 30 < 15 ? 'p' : 'a' + i % 26;
    memset(two_hundred, 'q', 200);
    memset(two_hundred_one, 'q', 201);
    for (int i = 0; i < 199; i++)
        two_hundred[i] = two_hundred_one[i] = 'A' + i % 20;
    for (int i = 0; i < 600; i++) {
        matrix[0][i] = i / 60;
        distinct_matrix[0][i] = i;
    }
    for (int i = 0; i < 210; i++)
        distinct_points[i] = (Point){ i, -i };
    for (int i = 0; i < 12; i++) {
        same_strings[i] = "same";
        memcpy(same_lines[i], "abc", 4);
    }
    for (int i = 0; i < 150; i++) {
        halves.a[i] = i; halves.b[i] = -i;
        text_halves.a[i] = text_halves.b[i] = 'a' + i % 7;
    }
    cube[1][1][1] = 5;
    octets[3] = 'o';
    points[1].x = 4;
    not_a_number = NAN;
    infinite = INFINITY;
    minus_infinite = -INFINITY;
    long_nan = -NAN;
    memset(&damaged_bool, 5, 1);
    function_void = (void *)report;
    inside_function = (char *)report + 3;
    text_pointer = &real_text;
    device.handle = handle;
    holes.handler = handle;
    holes.bits = bits;
    anonymous.b.c.leaf = 3;
    deep.a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.bottom = 1;
    struct Pointers p = {
        .opaque = (struct TagOnly *)&number, .nothing = text, .constant = &constant, .text = text,
        .bytes = octets, .small = (signed char *)text, .name = text, .number = &number,
        .twice = (int **)&volatile_pointer, .thrice = &volatile_pointer, .handler = handle,
        .plain = old_style, .strict = strict, .reported = report, .compare = compare,
        .handlers = handlers, .returns_text = returns_text, .self = &pointers, .flags = &flags,
        .truth = &yes, .real = &real, .utf16 = text16, .text_array = (char (*)[4])text,
        .octets = octets, .signed_octets = signed_octets,
    };
    memcpy(&pointers, &p, sizeof p);
}

int main(void)
{
    fill();
    compare_pointer(text, text_function);
    __builtin_trap();
}
