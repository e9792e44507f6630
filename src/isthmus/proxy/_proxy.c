#define PY_SSIZE_T_CLEAN
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_proxy", 0, -1, 0};
PyMODINIT_FUNC PyInit__proxy(void) { return PyModule_Create(&module); }
