/* Proxy, the fast implementation: a type that forwards every operation to its target.
 *
 * What happens often is here: forwarding by a resolved proxy. What happens once in a proxy's life or
 * less (resolving, pickling, copying, what an unresolved proxy answers) is Python that the pure twin
 * shares, see _once.py, _answers.py and _methods.py. The parts, in order:
 *
 *   1. the object, and how to get at its target
 *   2. attributes
 *   3. forwarded operations
 *   4. the root type `Proxy`, and its kin: one type per shape of target, with only its slots
 *   5. functions of the module, and its setup
 *
 * A rule that all of 3 relies on: the target lives as long as the proxy (or as whoever took it away keeps
 * it, see _once.unsettle), and a caller of a slot holds the proxy, so targets are passed around as borrowed
 * references.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#if PY_VERSION_HEX < 0x030C0000
#include <structmember.h>
#define Py_T_OBJECT_EX T_OBJECT_EX
#define Py_T_PYSSIZET T_PYSSIZET
#define Py_READONLY READONLY
#endif

/* As _ABI in __init__.py: one more whenever this file and the Python modules have to change together. */
#define ABI 2

/* ------------------------------------------------------------------ 1. the object */

typedef struct {
    PyObject_HEAD
    PyObject *target;  /* NULL until resolved, or again after _once.unsettle */
    PyObject *factory;
    PyObject *about;   /* a TargetClass, or None */
    PyObject *weakrefs;
    vectorcallfunc call;
    char derived;      /* of a user's subclass of Proxy, which may have attributes of its own */
} ProxyObject;

/* One per process: a subinterpreter is refused (and gets the twin), see module_exec. */
static struct {
    PyTypeObject *root;           /* Proxy */
    PyObject *known_kin;          /* {shape: kin of Proxy}, the dict that _kin.py uses too */
    PyObject *unknown;            /* the shape of a target whose class is not known */
    PyObject *make_kin;           /* _kin.kin */
    PyObject *resolve;            /* _once.resolve */
    PyObject *describe;           /* _once.describe */
    PyObject *answer;             /* _answers.answer */
    PyObject *answer_unresolved;  /* _answers.answer_unresolved */
    PyObject *without_method;     /* _methods.without_method */
    PyObject *own_names;          /* _answers.OWN */
    PyObject *always_names;       /* _answers.ALWAYS, some of them */
    PyObject *implicit_names;     /* _answers.IMPLICIT */
    PyObject *shape_name;         /* "_isthmus_shape" */
    PyObject *orig_class_name;    /* "__orig_class__" */
    PyObject *call_name;          /* "__call__" */
} state;

static void proxy_dealloc(PyObject *self);

static inline int
is_proxy(PyObject *object)
{
    /* Kin of Proxy itself have its deallocator and only they; kin of a user's subclass are heap types
     * below it. The flag spares int, str, ndarray and most other operands the walk along the bases. */
    return Py_TYPE(object)->tp_dealloc == proxy_dealloc ||
           (PyType_HasFeature(Py_TYPE(object), Py_TPFLAGS_HEAPTYPE) &&
            PyObject_TypeCheck(object, state.root));
}

static PyObject *
resolve(PyObject *self)
{
    PyObject *target = PyObject_CallOneArg(state.resolve, self);
    if (target == NULL) {
        return NULL;
    }
    Py_DECREF(target); /* the proxy itself holds one */
    return ((ProxyObject *)self)->target;
}

/* The target of a proxy, borrowed; NULL with an exception if its factory raised. */
static inline PyObject *
target_of(PyObject *self)
{
    PyObject *target = ((ProxyObject *)self)->target;
    return target != NULL ? target : resolve(self);
}

/* The target of a proxy, anything else as it is; borrowed. */
static inline PyObject *
bare(PyObject *object)
{
    return is_proxy(object) ? target_of(object) : object;
}

static int
proxy_traverse(PyObject *self, visitproc visit, void *arg)
{
    ProxyObject *proxy = (ProxyObject *)self;
    Py_VISIT(proxy->target);
    Py_VISIT(proxy->factory);
    Py_VISIT(proxy->about);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int
proxy_clear(PyObject *self)
{
    ProxyObject *proxy = (ProxyObject *)self;
    Py_CLEAR(proxy->target);
    Py_CLEAR(proxy->factory);
    Py_CLEAR(proxy->about);
    return 0;
}

static void
proxy_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, proxy_dealloc) /* a proxy may be the factory of a proxy, a long way down */
    if (((ProxyObject *)self)->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    proxy_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
    Py_TRASHCAN_END
}

/* ------------------------------------------------------------------ 2. attributes */

/* Whether a user's subclass of Proxy defines this name; the C form of _answers.is_own. */
static int
is_own_name(PyObject *self, PyObject *name)
{
    int implicit = PySet_Contains(state.implicit_names, name);
    if (implicit != 0) {
        return implicit < 0 ? -1 : 0;
    }
    PyObject *mro = Py_TYPE(self)->tp_mro;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(mro); i++) {
        PyTypeObject *cls = (PyTypeObject *)PyTuple_GET_ITEM(mro, i);
        if (cls == state.root) {
            break;
        }
        int found = PyDict_Contains(cls->tp_dict, name);
        if (found > 0) {
            int made = PyDict_Contains(cls->tp_dict, state.shape_name);
            found = made < 0 ? -1 : !made;
        }
        if (found != 0) {
            return found;
        }
    }
    return 0;
}

static inline int
starts_with_two_underscores(PyObject *name)
{
    return PyUnicode_GET_LENGTH(name) > 4 && PyUnicode_READ_CHAR(name, 0) == '_' &&
           PyUnicode_READ_CHAR(name, 1) == '_';
}

static PyObject *
proxy_getattro(PyObject *self, PyObject *name)
{
    ProxyObject *proxy = (ProxyObject *)self;
    if (!PyUnicode_Check(name)) { /* `type(p).__getattribute__(p, 1)` comes here unchecked */
        return PyErr_Format(PyExc_TypeError, "attribute name must be string, not '%s'",
                            Py_TYPE(name)->tp_name);
    }
    if (proxy->derived) {
        int own = is_own_name(self, name);
        if (own != 0) {
            return own < 0 ? NULL : PyObject_GenericGetAttr(self, name);
        }
    }
    if (starts_with_two_underscores(name)) {
        int own = PySet_Contains(state.own_names, name);
        if (own > 0) {
            int always = PySet_Contains(state.always_names, name);
            if (always > 0) {
                return PyObject_GenericGetAttr(self, name);
            }
            return always < 0 ? NULL : PyObject_CallFunctionObjArgs(state.answer, self, name, NULL);
        }
        if (own < 0) {
            return NULL;
        }
    }
    if (proxy->target == NULL) {
        return PyObject_CallFunctionObjArgs(state.answer_unresolved, self, name, NULL);
    }
    getattrofunc get = Py_TYPE(proxy->target)->tp_getattro;
    if (get != NULL) {
        return get(proxy->target, name); /* a call less than PyObject_GetAttr, which checks the name again */
    }
    return PyObject_GetAttr(proxy->target, name);
}

static int
proxy_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    if (((ProxyObject *)self)->derived) {
        int own = is_own_name(self, name);
        if (own != 0) {
            return own < 0 ? -1 : PyObject_GenericSetAttr(self, name, value);
        }
    }
    /* `Proxy[int](factory)` offers its alias to what it made: not the target's business, nor ours. */
    int alias = PyObject_RichCompareBool(name, state.orig_class_name, Py_EQ);
    if (alias < 0) {
        return -1;
    }
    if (alias) {
        PyErr_SetObject(PyExc_AttributeError, name);
        return -1;
    }
    PyObject *target = target_of(self);
    return target == NULL ? -1 : PyObject_SetAttr(target, name, value);
}

/* ------------------------------------------------------------------ 3. forwarded operations */

#define UNARY(name, function)                                    \
    static PyObject *name(PyObject *self)                        \
    {                                                            \
        PyObject *target = target_of(self);                      \
        return target == NULL ? NULL : function(target);         \
    }

/* Either operand may be the proxy: the interpreter calls the same slot for `p + x` and `x + p`. */
#define BINARY(name, function)                                   \
    static PyObject *name(PyObject *left, PyObject *right)       \
    {                                                            \
        if ((left = bare(left)) == NULL ||                       \
            (right = bare(right)) == NULL) {                     \
            return NULL;                                         \
        }                                                        \
        return function(left, right);                            \
    }

/* `p += x` rebinds p. A target that changed itself stays behind the proxy; for any other the result is
 * the new value of the name, and whoever else holds the proxy sees no change. */
static inline PyObject *
after_inplace(PyObject *self, PyObject *target, PyObject *result)
{
    if (result == target) {
        Py_DECREF(result);
        return Py_NewRef(self);
    }
    return result;
}

#define INPLACE(name, function)                                  \
    static PyObject *name(PyObject *self, PyObject *other)       \
    {                                                            \
        PyObject *target = target_of(self);                      \
        if (target == NULL || (other = bare(other)) == NULL) {   \
            return NULL;                                         \
        }                                                        \
        return after_inplace(self, target, function(target, other)); \
    }

UNARY(proxy_negative, PyNumber_Negative)
UNARY(proxy_positive, PyNumber_Positive)
UNARY(proxy_absolute, PyNumber_Absolute)
UNARY(proxy_invert, PyNumber_Invert)
UNARY(proxy_int, PyNumber_Long)
UNARY(proxy_float, PyNumber_Float)
UNARY(proxy_index, PyNumber_Index)
UNARY(proxy_str, PyObject_Str)
UNARY(proxy_iter, PyObject_GetIter)
UNARY(proxy_aiter, PyObject_GetAIter)

BINARY(proxy_add, PyNumber_Add)
BINARY(proxy_subtract, PyNumber_Subtract)
BINARY(proxy_multiply, PyNumber_Multiply)
BINARY(proxy_matrix_multiply, PyNumber_MatrixMultiply)
BINARY(proxy_true_divide, PyNumber_TrueDivide)
BINARY(proxy_floor_divide, PyNumber_FloorDivide)
BINARY(proxy_remainder, PyNumber_Remainder)
BINARY(proxy_divmod, PyNumber_Divmod)
BINARY(proxy_lshift, PyNumber_Lshift)
BINARY(proxy_rshift, PyNumber_Rshift)
BINARY(proxy_and, PyNumber_And)
BINARY(proxy_xor, PyNumber_Xor)
BINARY(proxy_or, PyNumber_Or)

INPLACE(proxy_iadd, PyNumber_InPlaceAdd)
INPLACE(proxy_isubtract, PyNumber_InPlaceSubtract)
INPLACE(proxy_imultiply, PyNumber_InPlaceMultiply)
INPLACE(proxy_imatrix_multiply, PyNumber_InPlaceMatrixMultiply)
INPLACE(proxy_itrue_divide, PyNumber_InPlaceTrueDivide)
INPLACE(proxy_ifloor_divide, PyNumber_InPlaceFloorDivide)
INPLACE(proxy_iremainder, PyNumber_InPlaceRemainder)
INPLACE(proxy_ilshift, PyNumber_InPlaceLshift)
INPLACE(proxy_irshift, PyNumber_InPlaceRshift)
INPLACE(proxy_iand, PyNumber_InPlaceAnd)
INPLACE(proxy_ixor, PyNumber_InPlaceXor)
INPLACE(proxy_ior, PyNumber_InPlaceOr)

static PyObject *
proxy_power(PyObject *base, PyObject *exponent, PyObject *modulus)
{
    if ((base = bare(base)) == NULL || (exponent = bare(exponent)) == NULL ||
        (modulus = bare(modulus)) == NULL) {
        return NULL;
    }
    return PyNumber_Power(base, exponent, modulus);
}

static PyObject *
proxy_ipower(PyObject *self, PyObject *exponent, PyObject *Py_UNUSED(modulus))
{
    PyObject *target = target_of(self);
    if (target == NULL || (exponent = bare(exponent)) == NULL) {
        return NULL;
    }
    return after_inplace(self, target, PyNumber_InPlacePower(target, exponent, Py_None));
}

static int
proxy_bool(PyObject *self)
{
    PyObject *target = target_of(self);
    return target == NULL ? -1 : PyObject_IsTrue(target);
}

static Py_hash_t
proxy_hash(PyObject *self)
{
    PyObject *target = target_of(self);
    return target == NULL ? -1 : PyObject_Hash(target);
}

static PyObject *
proxy_richcompare(PyObject *left, PyObject *right, int op)
{
    if ((left = bare(left)) == NULL || (right = bare(right)) == NULL) {
        return NULL;
    }
    return PyObject_RichCompare(left, right, op);
}

static PyObject *
proxy_repr(PyObject *self)
{
    PyObject *target = ((ProxyObject *)self)->target;
    return target != NULL ? PyObject_Repr(target) : PyObject_CallOneArg(state.describe, self);
}

static PyObject *
proxy_call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    PyObject *target = target_of(self);
    return target == NULL ? NULL : PyObject_Vectorcall(target, args, nargsf, kwnames);
}

static Py_ssize_t
proxy_length(PyObject *self)
{
    PyObject *target = target_of(self);
    return target == NULL ? -1 : PyObject_Size(target);
}

static PyObject *
proxy_getitem(PyObject *self, PyObject *key)
{
    PyObject *target = target_of(self);
    if (target == NULL || (key = bare(key)) == NULL) {
        return NULL;
    }
    PyMappingMethods *methods = Py_TYPE(target)->tp_as_mapping;
    if (methods != NULL && methods->mp_subscript != NULL) {
        return methods->mp_subscript(target, key); /* a call less: 10 % of `p[0]` */
    }
    return PyObject_GetItem(target, key);
}

static int
proxy_setitem(PyObject *self, PyObject *key, PyObject *value)
{
    PyObject *target = target_of(self);
    if (target == NULL || (key = bare(key)) == NULL) {
        return -1;
    }
    return value == NULL ? PyObject_DelItem(target, key) : PyObject_SetItem(target, key, value);
}

/* C code that sees a sequence asks by position. Not PySequence_GetItem, which would add the length to a
 * negative position a second time. */
static PyObject *
proxy_sequence_item(PyObject *self, Py_ssize_t position)
{
    PyObject *target = target_of(self);
    if (target == NULL) {
        return NULL;
    }
    PySequenceMethods *methods = Py_TYPE(target)->tp_as_sequence;
    if (methods != NULL && methods->sq_item != NULL) {
        return methods->sq_item(target, position);
    }
    PyObject *key = PyLong_FromSsize_t(position);
    if (key == NULL) {
        return NULL;
    }
    PyObject *item = PyObject_GetItem(target, key);
    Py_DECREF(key);
    return item;
}

static int
proxy_contains(PyObject *self, PyObject *item)
{
    PyObject *target = target_of(self);
    /* The item bare too: `"a" in "abc"` looks at its exact type. */
    if (target == NULL || (item = bare(item)) == NULL) {
        return -1;
    }
    return PySequence_Contains(target, item);
}

static int
proxy_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
    PyObject *target = target_of(self);
    if (target == NULL) {
        view->obj = NULL;
        return -1;
    }
    return PyObject_GetBuffer(target, view, flags); /* view->obj is the target, which releases it */
}

/* A slot that has no function in the C API to call it by. */
static PyObject *
refuse(PyObject *target, const char *what)
{
    return PyErr_Format(PyExc_TypeError, "'%s' object %s", Py_TYPE(target)->tp_name, what);
}

static PyObject *
proxy_next(PyObject *self)
{
    PyObject *target = target_of(self);
    if (target == NULL) {
        return NULL;
    }
    if (!PyIter_Check(target)) {
        return refuse(target, "is not an iterator");
    }
    return Py_TYPE(target)->tp_iternext(target);
}

static PyObject *
proxy_await(PyObject *self)
{
    PyObject *target = target_of(self);
    if (target == NULL) {
        return NULL;
    }
    PyAsyncMethods *methods = Py_TYPE(target)->tp_as_async;
    if (methods == NULL || methods->am_await == NULL) {
        return refuse(target, "can't be used in 'await' expression");
    }
    return methods->am_await(target);
}

static PyObject *
proxy_anext(PyObject *self)
{
    PyObject *target = target_of(self);
    if (target == NULL) {
        return NULL;
    }
    PyAsyncMethods *methods = Py_TYPE(target)->tp_as_async;
    if (methods == NULL || methods->am_anext == NULL) {
        return refuse(target, "is not an async iterator");
    }
    return methods->am_anext(target);
}

static PyObject *
proxy_descr_get(PyObject *self, PyObject *instance, PyObject *owner)
{
    PyObject *target = target_of(self);
    if (target == NULL) {
        return NULL;
    }
    descrgetfunc get = Py_TYPE(target)->tp_descr_get;
    return get != NULL ? get(target, instance, owner) : Py_NewRef(self);
}

static int
proxy_descr_set(PyObject *self, PyObject *instance, PyObject *value)
{
    PyObject *target = target_of(self);
    if (target == NULL) {
        return -1;
    }
    descrsetfunc set = Py_TYPE(target)->tp_descr_set;
    if (set == NULL) {
        refuse(target, "is not a data descriptor");
        return -1;
    }
    return set(target, instance, value);
}

static PyObject *
proxy_format(PyObject *self, PyObject *spec)
{
    PyObject *target = target_of(self);
    return target == NULL ? NULL : PyObject_Format(target, spec);
}

/* Special methods that have no slot: the interpreter finds a method of this name on the type. */
static PyObject *
call_method(PyObject *self, const char *name, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *target = target_of(self);
    if (target == NULL) {
        return NULL;
    }
    PyObject *method = PyObject_GetAttrString(target, name), *result = NULL;
    if (method != NULL) {
        result = PyObject_Vectorcall(method, args, (size_t)nargs, NULL);
        Py_DECREF(method);
    }
    else if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
        /* A proxy of an unknown target has every method; Python may have another way. */
        PyErr_Clear();
        PyObject *first = Py_BuildValue("(Os)", target, name), *rest = NULL, *all = NULL;
        if (first != NULL && (rest = PyTuple_New(nargs)) != NULL) {
            for (Py_ssize_t i = 0; i < nargs; i++) {
                PyTuple_SET_ITEM(rest, i, Py_NewRef(args[i]));
            }
            all = PySequence_Concat(first, rest);
        }
        result = all == NULL ? NULL : PyObject_CallObject(state.without_method, all);
        Py_XDECREF(first);
        Py_XDECREF(rest);
        Py_XDECREF(all);
    }
    return result;
}

#define METHOD(name)                                                                      \
    static PyObject *method##name(PyObject *self, PyObject *const *args, Py_ssize_t nargs) \
    {                                                                                     \
        return call_method(self, #name, args, nargs);                                     \
    }

METHOD(__reversed__)
METHOD(__complex__)
METHOD(__round__)
METHOD(__trunc__)
METHOD(__floor__)
METHOD(__ceil__)
METHOD(__bytes__)
METHOD(__fspath__)
METHOD(__enter__)
METHOD(__exit__)
METHOD(__aenter__)
METHOD(__aexit__)
METHOD(__length_hint__)

/* numpy hands over a ufunc one of whose arguments is a proxy: call it again with bare ones. */
static PyObject *
proxy_array_ufunc(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    if (nargs < 2) {
        PyErr_SetString(PyExc_TypeError, "__array_ufunc__ needs a ufunc and a method");
        return NULL;
    }
    Py_ssize_t positional = nargs - 2;
    Py_ssize_t total = positional + (kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames));
    PyObject *result = NULL, *function = NULL, *out = NULL;
    PyObject *few[12];
    PyObject **values = total <= 12 ? few : PyMem_New(PyObject *, (size_t)total);
    if (values == NULL) {
        return PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; i < total; i++) {
        PyObject *value = args[i + 2];
        if (i >= positional && PyTuple_CheckExact(value) &&
            PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, i - positional), "out") == 0) {
            Py_ssize_t size = PyTuple_GET_SIZE(value);
            if ((out = PyTuple_New(size)) == NULL) {
                goto done;
            }
            for (Py_ssize_t j = 0; j < size; j++) {
                PyObject *item = bare(PyTuple_GET_ITEM(value, j));
                if (item == NULL) {
                    goto done;
                }
                PyTuple_SET_ITEM(out, j, Py_NewRef(item));
            }
            values[i] = out;
        }
        else if ((values[i] = bare(value)) == NULL) {
            goto done;
        }
    }
    int plain = PyObject_RichCompareBool(args[1], state.call_name, Py_EQ);
    if (plain < 0) {
        goto done;
    }
    function = plain ? Py_NewRef(args[0]) : PyObject_GetAttr(args[0], args[1]);
    if (function != NULL) {
        result = PyObject_Vectorcall(function, values, (size_t)positional, kwnames);
    }
done:
    Py_XDECREF(function);
    Py_XDECREF(out);
    if (values != few) {
        PyMem_Free(values);
    }
    return result;
}

/* ------------------------------------------------------------------ 4. the root type and its kin */

/* The bits of a shape, in the order of BITS in _shape.py (a test compares them). */
#define SHAPE_BITS(X)                                                                            \
    X(LEN, "__len__") X(GETITEM, "__getitem__") X(SETITEM, "__setitem__")                        \
    X(DELITEM, "__delitem__") X(SEQUENCE_ITEM, "sequence item") X(CONTAINS, "__contains__")      \
    X(ITER, "__iter__") X(NEXT, "__next__") X(REVERSED, "__reversed__") X(CALL, "__call__")      \
    X(HASH, "__hash__") X(BUFFER, "__buffer__") X(INT, "__int__") X(FLOAT, "__float__")          \
    X(INDEX, "__index__") X(COMPLEX, "__complex__") X(ABS, "__abs__") X(ROUND, "__round__")      \
    X(TRUNC, "__trunc__") X(FLOOR, "__floor__") X(CEIL, "__ceil__") X(BYTES, "__bytes__")        \
    X(FSPATH, "__fspath__") X(ENTER, "__enter__") X(EXIT, "__exit__") X(AENTER, "__aenter__")    \
    X(AEXIT, "__aexit__") X(AWAIT, "__await__") X(AITER, "__aiter__") X(ANEXT, "__anext__")      \
    X(LENGTH_HINT, "__length_hint__") X(GET, "__get__") X(SET, "__set__")                        \
    X(DELETE, "__delete__") X(DATACLASS, "__dataclass_fields__")                                 \
    X(MATCH_SEQUENCE, "match sequence") X(MATCH_MAPPING, "match mapping")

#define AS_PLACE(name, text) PLACE_##name,
enum { SHAPE_BITS(AS_PLACE) BIT_COUNT };
#define AS_TEXT(name, text) text,
static const char *const bit_names[] = {SHAPE_BITS(AS_TEXT)};
#define BIT(name) (UINT64_C(1) << PLACE_##name)

/* Slots and methods that a kin has if its shape has one of these bits. */
static const struct {
    uint64_t bits;
    int slot;
    void *function;
} shaped_slots[] = {
    {BIT(LEN), Py_mp_length, proxy_length},
    {BIT(LEN), Py_sq_length, proxy_length},
    {BIT(GETITEM), Py_mp_subscript, proxy_getitem},
    {BIT(SETITEM) | BIT(DELITEM), Py_mp_ass_subscript, proxy_setitem},
    {BIT(SEQUENCE_ITEM), Py_sq_item, proxy_sequence_item},
    {BIT(CONTAINS), Py_sq_contains, proxy_contains},
    {BIT(ITER), Py_tp_iter, proxy_iter},
    {BIT(NEXT), Py_tp_iternext, proxy_next},
    {BIT(CALL), Py_tp_call, PyVectorcall_Call},
    {BIT(BUFFER), Py_bf_getbuffer, proxy_getbuffer},
    {BIT(INT), Py_nb_int, proxy_int},
    {BIT(FLOAT), Py_nb_float, proxy_float},
    {BIT(INDEX), Py_nb_index, proxy_index},
    {BIT(ABS), Py_nb_absolute, proxy_absolute},
    {BIT(AWAIT), Py_am_await, proxy_await},
    {BIT(AITER), Py_am_aiter, proxy_aiter},
    {BIT(ANEXT), Py_am_anext, proxy_anext},
    {BIT(GET), Py_tp_descr_get, proxy_descr_get},
    {BIT(SET) | BIT(DELETE), Py_tp_descr_set, proxy_descr_set},
};

#define SHAPED_METHOD(bit, name) \
    {BIT(bit), {#name, (PyCFunction)(void (*)(void))method##name, METH_FASTCALL, NULL}}

static struct {
    uint64_t bits;
    PyMethodDef method;
} shaped_methods[] = {
    SHAPED_METHOD(REVERSED, __reversed__),
    SHAPED_METHOD(COMPLEX, __complex__),
    SHAPED_METHOD(ROUND, __round__),
    SHAPED_METHOD(TRUNC, __trunc__),
    SHAPED_METHOD(FLOOR, __floor__),
    SHAPED_METHOD(CEIL, __ceil__),
    SHAPED_METHOD(BYTES, __bytes__),
    SHAPED_METHOD(FSPATH, __fspath__),
    SHAPED_METHOD(ENTER, __enter__),
    SHAPED_METHOD(EXIT, __exit__),
    SHAPED_METHOD(AENTER, __aenter__),
    SHAPED_METHOD(AEXIT, __aexit__),
    SHAPED_METHOD(LENGTH_HINT, __length_hint__),
};

/* Make one kin: a heap type below Proxy with the slots of a shape. */
static PyObject *
make_kin(PyObject *Py_UNUSED(module), PyObject *shape)
{
    unsigned long long bits;
    if (PyObject_RichCompareBool(shape, state.unknown, Py_EQ) == 1) {
        /* The descriptor methods are left out: they would make reading a class attribute resolve it;
         * and the flags of `match`, which exclude each other. As FULL in _shape.py. */
        bits = ((UINT64_C(1) << BIT_COUNT) - 1) &
               ~(BIT(GET) | BIT(SET) | BIT(DELETE) | BIT(DATACLASS) | BIT(MATCH_SEQUENCE) |
                 BIT(MATCH_MAPPING));
    }
    else {
        bits = PyLong_AsUnsignedLongLongMask(shape); /* unknown bits of a newer version: ignored */
        if (bits == (unsigned long long)-1 && PyErr_Occurred()) {
            return NULL;
        }
    }

    PyType_Slot slots[Py_ARRAY_LENGTH(shaped_slots) + 6];
    size_t count = 0;
    slots[count++] = (PyType_Slot){Py_tp_dealloc, proxy_dealloc};
    slots[count++] = (PyType_Slot){Py_tp_traverse, proxy_traverse};
    slots[count++] = (PyType_Slot){Py_tp_clear, proxy_clear};
    if (!(bits & BIT(HASH))) {
        /* A type inherits comparison and hash together or not at all. */
        slots[count++] = (PyType_Slot){Py_tp_hash, PyObject_HashNotImplemented};
        slots[count++] = (PyType_Slot){Py_tp_richcompare, proxy_richcompare};
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(shaped_slots); i++) {
        if (bits & shaped_slots[i].bits) {
            slots[count++] = (PyType_Slot){shaped_slots[i].slot, shaped_slots[i].function};
        }
    }
    slots[count] = (PyType_Slot){0, NULL};

    unsigned long flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE;
    if (bits & BIT(CALL)) {
        flags |= Py_TPFLAGS_HAVE_VECTORCALL;
    }
    if (bits & BIT(MATCH_SEQUENCE)) {
        flags |= Py_TPFLAGS_SEQUENCE;
    }
    else if (bits & BIT(MATCH_MAPPING)) {
        flags |= Py_TPFLAGS_MAPPING;
    }
    PyType_Spec spec = {
        .name = "isthmus.proxy.Proxy",
        .basicsize = sizeof(ProxyObject),
        .flags = (unsigned int)flags,
        .slots = slots,
    };
    PyObject *kin = PyType_FromSpecWithBases(&spec, (PyObject *)state.root);
    if (kin == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(shaped_methods); i++) {
        if (bits & shaped_methods[i].bits) {
            PyMethodDef *method = &shaped_methods[i].method;
            PyObject *descriptor = PyDescr_NewMethod((PyTypeObject *)kin, method);
            int failed = descriptor == NULL ||
                         PyObject_SetAttrString(kin, method->ml_name, descriptor) < 0;
            Py_XDECREF(descriptor);
            if (failed) {
                Py_DECREF(kin);
                return NULL;
            }
        }
    }
    if (bits & BIT(DATACLASS)) {
        /* dataclasses.asdict looks for this on the type, and for the fields on the object. */
        PyObject *fields = PyDict_New();
        if (fields == NULL || PyObject_SetAttrString(kin, "__dataclass_fields__", fields) < 0) {
            Py_XDECREF(fields);
            Py_DECREF(kin);
            return NULL;
        }
        Py_DECREF(fields);
    }
    return kin;
}

/* Proxy(factory, about=None), for Proxy, its subclasses and (by `type(p)(...)`) kin. */
static PyObject *
make_proxy(PyTypeObject *cls, PyObject *factory, PyObject *about)
{
    if (!PyCallable_Check(factory)) {
        return PyErr_Format(PyExc_TypeError,
                            "a proxy needs a factory, a callable without arguments that returns the "
                            "target; got %R of type %s",
                            factory, Py_TYPE(factory)->tp_name);
    }
    PyObject *shape = state.unknown;
    if (about != Py_None) {
        if (!PyTuple_Check(about) || PyTuple_GET_SIZE(about) != 3 ||
            !PyLong_Check(PyTuple_GET_ITEM(about, 2))) {
            return PyErr_Format(PyExc_TypeError, "about is a TargetClass or None, not %R", about);
        }
        shape = PyTuple_GET_ITEM(about, 2);
    }
    PyObject *kin = NULL;
    if (cls == state.root) {
        kin = Py_XNewRef(PyDict_GetItemWithError(state.known_kin, shape));
    }
    if (kin == NULL) {
        if (PyErr_Occurred()) {
            return NULL;
        }
        kin = PyObject_CallFunctionObjArgs(state.make_kin, (PyObject *)cls, shape, NULL);
        if (kin == NULL) {
            return NULL;
        }
    }
    PyTypeObject *type = (PyTypeObject *)kin;
    ProxyObject *self = (ProxyObject *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->factory = Py_NewRef(factory);
        self->about = Py_NewRef(about);
        self->call = proxy_call;
        self->derived = type->tp_dealloc != proxy_dealloc; /* a Python class has its own */
    }
    Py_DECREF(kin);
    return (PyObject *)self;
}

static PyObject *
proxy_new(PyTypeObject *cls, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"factory", "about", NULL};
    PyObject *factory, *about = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:Proxy", names, &factory, &about)) {
        return NULL;
    }
    return make_proxy(cls, factory, about);
}

/* `Proxy(factory)` and `Proxy(factory, about)` without a tuple of arguments in between. */
static PyObject *
proxy_new_vectorcall(PyObject *cls, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    if ((nargs == 1 || nargs == 2) && (kwnames == NULL || PyTuple_GET_SIZE(kwnames) == 0)) {
        return make_proxy((PyTypeObject *)cls, args[0], nargs == 2 ? args[1] : Py_None);
    }
    PyObject *positional = PyTuple_New(nargs), *named = NULL, *self = NULL;
    if (positional == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        PyTuple_SET_ITEM(positional, i, Py_NewRef(args[i]));
    }
    if (kwnames != NULL && (named = PyDict_New()) == NULL) {
        goto done;
    }
    for (Py_ssize_t i = 0; named != NULL && i < PyTuple_GET_SIZE(kwnames); i++) {
        if (PyDict_SetItem(named, PyTuple_GET_ITEM(kwnames, i), args[nargs + i]) < 0) {
            goto done;
        }
    }
    self = proxy_new((PyTypeObject *)cls, positional, named);
done:
    Py_DECREF(positional);
    Py_XDECREF(named);
    return self;
}

/* Called by _once.settle. */
static PyObject *
proxy_settle(PyObject *self, PyObject *target)
{
    ProxyObject *proxy = (ProxyObject *)self;
    if (proxy->target == NULL) {
        proxy->target = Py_NewRef(target);
    }
    Py_RETURN_NONE;
}

/* Called by _once.unsettle, which says who keeps what this returns. */
static PyObject *
proxy_unsettle(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ProxyObject *proxy = (ProxyObject *)self;
    PyObject *target = proxy->target;
    if (target == NULL) {
        Py_RETURN_NONE;
    }
    proxy->target = NULL;
    return target;
}

static PyMethodDef proxy_methods[] = {
    {"__format__", proxy_format, METH_O, NULL},
    {"__array_ufunc__", (PyCFunction)(void (*)(void))proxy_array_ufunc,
     METH_FASTCALL | METH_KEYWORDS, NULL},
    {"_isthmus_settle", proxy_settle, METH_O, NULL},
    {"_isthmus_unsettle", proxy_unsettle, METH_NOARGS, NULL},
    {"_isthmus_make", make_kin, METH_O | METH_STATIC, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef proxy_members[] = {
    {"_isthmus_target", Py_T_OBJECT_EX, offsetof(ProxyObject, target), Py_READONLY, NULL},
    {"_isthmus_factory", Py_T_OBJECT_EX, offsetof(ProxyObject, factory), Py_READONLY, NULL},
    {"_isthmus_about", Py_T_OBJECT_EX, offsetof(ProxyObject, about), Py_READONLY, NULL},
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(ProxyObject, weakrefs), Py_READONLY, NULL},
    {"__vectorcalloffset__", Py_T_PYSSIZET, offsetof(ProxyObject, call), Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(proxy_doc,
"Proxy(factory, about=None)\n--\n\n"
"A lazy, transparent stand-in for the object that `factory` returns.\n\n"
"The factory, any callable without arguments, is called once, at the first use; from then on every\n"
"operation on the proxy is done by its target. Pickling a proxy pickles the factory.\n\n"
"Args:\n"
"    factory: returns the target.\n"
"    about: the target's class as a `TargetClass`, so that questions about it need no target.");

static PyType_Slot proxy_slots[] = {
    {Py_tp_doc, (void *)proxy_doc},
    {Py_tp_new, proxy_new},
    {Py_tp_dealloc, proxy_dealloc},
    {Py_tp_traverse, proxy_traverse},
    {Py_tp_clear, proxy_clear},
    {Py_tp_methods, proxy_methods},
    {Py_tp_members, proxy_members},
    {Py_tp_getattro, proxy_getattro},
    {Py_tp_setattro, proxy_setattro},
    {Py_tp_hash, proxy_hash},
    {Py_tp_str, proxy_str},
    {Py_tp_repr, proxy_repr},
    {Py_tp_richcompare, proxy_richcompare},
    {Py_nb_bool, proxy_bool},
    {Py_nb_negative, proxy_negative},
    {Py_nb_positive, proxy_positive},
    {Py_nb_invert, proxy_invert},
    {Py_nb_add, proxy_add},
    {Py_nb_subtract, proxy_subtract},
    {Py_nb_multiply, proxy_multiply},
    {Py_nb_matrix_multiply, proxy_matrix_multiply},
    {Py_nb_true_divide, proxy_true_divide},
    {Py_nb_floor_divide, proxy_floor_divide},
    {Py_nb_remainder, proxy_remainder},
    {Py_nb_divmod, proxy_divmod},
    {Py_nb_power, proxy_power},
    {Py_nb_lshift, proxy_lshift},
    {Py_nb_rshift, proxy_rshift},
    {Py_nb_and, proxy_and},
    {Py_nb_xor, proxy_xor},
    {Py_nb_or, proxy_or},
    {Py_nb_inplace_add, proxy_iadd},
    {Py_nb_inplace_subtract, proxy_isubtract},
    {Py_nb_inplace_multiply, proxy_imultiply},
    {Py_nb_inplace_matrix_multiply, proxy_imatrix_multiply},
    {Py_nb_inplace_true_divide, proxy_itrue_divide},
    {Py_nb_inplace_floor_divide, proxy_ifloor_divide},
    {Py_nb_inplace_remainder, proxy_iremainder},
    {Py_nb_inplace_power, proxy_ipower},
    {Py_nb_inplace_lshift, proxy_ilshift},
    {Py_nb_inplace_rshift, proxy_irshift},
    {Py_nb_inplace_and, proxy_iand},
    {Py_nb_inplace_xor, proxy_ixor},
    {Py_nb_inplace_or, proxy_ior},
    {0, NULL},
};

static PyType_Spec proxy_spec = {
    .name = "isthmus.proxy.Proxy",
    .basicsize = sizeof(ProxyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = proxy_slots,
};

/* ------------------------------------------------------------------ 5. the module */

static PyObject *
module_is_proxy(PyObject *Py_UNUSED(module), PyObject *object)
{
    return PyBool_FromLong(is_proxy(object));
}

static PyObject *
module_extract(PyObject *Py_UNUSED(module), PyObject *object)
{
    return Py_XNewRef(bare(object));
}

static PyObject *
module_resolve(PyObject *Py_UNUSED(module), PyObject *object)
{
    if (bare(object) == NULL) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
expected_proxy(PyObject *object)
{
    return PyErr_Format(PyExc_TypeError, "expected a proxy, got %R of type %s", object,
                        Py_TYPE(object)->tp_name);
}

static PyObject *
module_is_resolved(PyObject *Py_UNUSED(module), PyObject *object)
{
    if (!is_proxy(object)) {
        return expected_proxy(object);
    }
    return PyBool_FromLong(((ProxyObject *)object)->target != NULL);
}

static PyObject *
module_get_factory(PyObject *Py_UNUSED(module), PyObject *object)
{
    if (!is_proxy(object)) {
        return expected_proxy(object);
    }
    return Py_XNewRef(((ProxyObject *)object)->factory);
}

static PyObject *
module_target_class(PyObject *Py_UNUSED(module), PyObject *object)
{
    if (!is_proxy(object)) {
        return expected_proxy(object);
    }
    return Py_XNewRef(((ProxyObject *)object)->about);
}

/* Two questions about a class that Python cannot answer everywhere, for _shape.py. */
static PyObject *
module_has_buffer(PyObject *Py_UNUSED(module), PyObject *cls)
{
    if (!PyType_Check(cls)) {
        return PyErr_Format(PyExc_TypeError, "expected a class, got %R", cls);
    }
    PyBufferProcs *methods = ((PyTypeObject *)cls)->tp_as_buffer;
    return PyBool_FromLong(methods != NULL && methods->bf_getbuffer != NULL);
}

static PyObject *
module_has_sequence_item(PyObject *Py_UNUSED(module), PyObject *cls)
{
    if (!PyType_Check(cls)) {
        return PyErr_Format(PyExc_TypeError, "expected a class, got %R", cls);
    }
    PySequenceMethods *methods = ((PyTypeObject *)cls)->tp_as_sequence;
    return PyBool_FromLong(methods != NULL && methods->sq_item != NULL &&
                           !PyType_FastSubclass((PyTypeObject *)cls, Py_TPFLAGS_DICT_SUBCLASS));
}

static PyMethodDef module_methods[] = {
    {"is_proxy", module_is_proxy, METH_O,
     PyDoc_STR("is_proxy(obj)\n--\n\nReturn whether this is a proxy, without resolving it.")},
    {"extract", module_extract, METH_O,
     PyDoc_STR("extract(obj)\n--\n\nReturn the bare target of a proxy, resolving it if need be; "
               "anything else as it is.")},
    {"resolve", module_resolve, METH_O,
     PyDoc_STR("resolve(obj)\n--\n\nMake sure that a proxy has its target; nothing to do for "
               "anything else.")},
    {"is_resolved", module_is_resolved, METH_O,
     PyDoc_STR("is_resolved(proxy)\n--\n\nReturn whether a proxy has its target already.")},
    {"get_factory", module_get_factory, METH_O,
     PyDoc_STR("get_factory(proxy)\n--\n\nReturn the factory of a proxy, without resolving it.")},
    {"target_class", module_target_class, METH_O,
     PyDoc_STR("target_class(proxy)\n--\n\nReturn what a proxy was told of its target's class, or "
               "None.")},
    {"has_buffer", module_has_buffer, METH_O, NULL},
    {"has_sequence_item", module_has_sequence_item, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyObject *
attribute_of(const char *module_name, const char *attribute)
{
    PyObject *module = PyImport_ImportModule(module_name);
    if (module == NULL) {
        return NULL;
    }
    PyObject *value = PyObject_GetAttrString(module, attribute);
    Py_DECREF(module);
    return value;
}

/* Put this implementation's Proxy and what it knows better into the shared Python modules. */
static int
join_shared_modules(PyObject *module)
{
    PyObject *roots = NULL, *methods = NULL, *shape = NULL;
    int failed = -1;
    if ((roots = attribute_of("isthmus.proxy._kin", "roots")) == NULL ||
        PyList_Append(roots, (PyObject *)state.root) < 0 ||
        (methods = attribute_of("isthmus.proxy._methods", "METHODS")) == NULL ||
        (shape = PyImport_ImportModule("isthmus.proxy._shape")) == NULL) {
        goto done;
    }
    PyObject *name, *method;
    Py_ssize_t position = 0;
    while (PyDict_Next(methods, &position, &name, &method)) {
        int here = PyDict_Contains(state.root->tp_dict, name); /* what is written in C stays */
        if (here < 0 || (here == 0 && PyObject_SetAttr((PyObject *)state.root, name, method) < 0)) {
            goto done;
        }
    }
    static const char *const better[] = {"has_buffer", "has_sequence_item"};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(better); i++) {
        PyObject *function = PyObject_GetAttrString(module, better[i]);
        if (function == NULL || PyObject_SetAttrString(shape, better[i], function) < 0) {
            Py_XDECREF(function);
            goto done;
        }
        Py_DECREF(function);
    }
    failed = 0;
done:
    Py_XDECREF(roots);
    Py_XDECREF(methods);
    Py_XDECREF(shape);
    return failed;
}

static int
add_bit_names(PyObject *module)
{
    PyObject *names = PyTuple_New(BIT_COUNT);
    if (names == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < BIT_COUNT; i++) {
        PyObject *name = PyUnicode_FromString(bit_names[i]);
        if (name == NULL) {
            Py_DECREF(names);
            return -1;
        }
        PyTuple_SET_ITEM(names, i, name);
    }
    int failed = PyModule_AddObjectRef(module, "BITS", names);
    Py_DECREF(names);
    return failed;
}

static int
module_exec(PyObject *module)
{
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError,
                        "the C proxy serves the main interpreter only; use isthmus.proxy._pure");
        return -1;
    }
    if (state.root == NULL) { /* not again for a module that was dropped and is imported anew */
#define NEED(field, value)                  \
    if ((state.field = (value)) == NULL) {  \
        return -1;                          \
    }
        NEED(shape_name, PyUnicode_InternFromString("_isthmus_shape"))
        NEED(orig_class_name, PyUnicode_InternFromString("__orig_class__"))
        NEED(call_name, PyUnicode_InternFromString("__call__"))
        NEED(unknown, attribute_of("isthmus.proxy._shape", "UNKNOWN"))
        NEED(make_kin, attribute_of("isthmus.proxy._kin", "kin"))
        NEED(resolve, attribute_of("isthmus.proxy._once", "resolve"))
        NEED(describe, attribute_of("isthmus.proxy._once", "describe"))
        NEED(answer, attribute_of("isthmus.proxy._answers", "answer"))
        NEED(answer_unresolved, attribute_of("isthmus.proxy._answers", "answer_unresolved"))
        NEED(without_method, attribute_of("isthmus.proxy._methods", "without_method"))
        NEED(own_names, attribute_of("isthmus.proxy._answers", "OWN"))
        NEED(always_names, attribute_of("isthmus.proxy._answers", "ALWAYS"))
        NEED(implicit_names, attribute_of("isthmus.proxy._answers", "IMPLICIT"))
        NEED(known_kin, PyDict_New())
        NEED(root, (PyTypeObject *)PyType_FromSpec(&proxy_spec))
#undef NEED
        state.root->tp_vectorcall = proxy_new_vectorcall;
        if (PyObject_SetAttrString((PyObject *)state.root, "_isthmus_kin", state.known_kin) < 0 ||
            join_shared_modules(module) < 0) {
            Py_CLEAR(state.root);
            return -1;
        }
    }
    if (PyModule_AddObjectRef(module, "Proxy", (PyObject *)state.root) < 0) {
        return -1;
    }
    if (PyModule_AddIntConstant(module, "ABI", ABI) < 0) {
        return -1;
    }
    return add_bit_names(module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_USED}, /* targets are published and read without atomics */
#endif
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "isthmus.proxy._proxy",
    .m_doc = "The proxy type in C.",
    .m_size = 0,
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__proxy(void)
{
    return PyModuleDef_Init(&module_definition);
}
