"""The package as such: versions, names, stubs, what its documents say."""
import ast
import asyncio
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap

import pytest

import uringloop
from tests.support.features import needs_feature
from tests.support.programs import ROOT, python, script
from uringloop.stream.transport import StreamTransport

PACKAGE = ROOT / 'uringloop'
STUBS = sorted(PACKAGE.rglob('*.pyi'))
EXTENSIONS = sorted(PACKAGE.rglob('*.pyx'))


def module_of(path):
    """The dotted name of what is in ``path``."""
    return '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')


# -- versions ----------------------------------------------------------------------------------

def test_version_is_the_projects():
    project = (ROOT / 'pyproject.toml').read_text()
    assert re.search(r'^version = "(.+)"$', project, re.MULTILINE)[1] == uringloop.__version__


def test_changelog_begins_with_this_version():
    headings = re.findall(r'^## (\S+)', (ROOT / 'CHANGELOG.md').read_text(), re.MULTILINE)
    assert headings[0] == uringloop.__version__


def test_command_tells_version():
    done = python('-m', 'uringloop', '--version', cwd=ROOT)
    assert done.stdout == f'uringloop-zc {uringloop.__version__}\n'


# -- public names ------------------------------------------------------------------------------

@pytest.mark.parametrize('name', uringloop.__all__)
def test_public_name_has_a_docstring(name):
    thing = getattr(uringloop, name)
    text = inspect.cleandoc(thing.__doc__)
    # namedtuple and dataclass make docstrings that only repeat the signature.
    assert not text.startswith(f'{name}(')
    assert len(text.split()) >= 4


@pytest.mark.parametrize('transport', [uringloop.DatagramTransport, StreamTransport])
def test_transport_methods_have_docstrings(transport):
    for name in ('get_extra_info', 'pause_reading', 'set_write_buffer_limits', 'close', 'abort',
                 'sendto', 'sendto_zerocopy', 'write', 'writelines', 'write_eof'):
        if hasattr(transport, name):
            assert len(getattr(transport, name).__doc__.split()) >= 4, name


def test_transports_can_do_what_asyncios_can():
    for transport, kind in ((uringloop.DatagramTransport, asyncio.DatagramTransport),
                            (StreamTransport, asyncio.Transport)):
        public = {name for name in dir(kind) if not name.startswith('_')}
        assert public - set(dir(transport)) == set(), transport


def test_all_is_sorted_and_complete():
    assert uringloop.__all__ == sorted(uringloop.__all__)
    namespace = {}
    exec('from uringloop import *', namespace)
    assert set(uringloop.__all__) <= set(namespace)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'uringloop' has no attribute 'nothing'"):
        _ = uringloop.nothing


# -- stubs -------------------------------------------------------------------------------------

def named_in(body):
    """The names that a stub's statements define, with the statements of classes."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield node.name, node.body
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, []
        elif isinstance(node, ast.AnnAssign):
            yield node.target.id, []


def missing_from(thing, body, prefix=''):
    for name, inner in named_in(body):
        if name == '__buffer__' and sys.version_info < (3, 12):
            continue             # C has it; Python code can call it from 3.12 on
        if not hasattr(thing, name):
            # The buffer protocol has no method before Python 3.12.
            if name != '__buffer__' or sys.version_info >= (3, 12):
                yield prefix + name
        else:
            yield from missing_from(getattr(thing, name), inner, f'{prefix}{name}.')


@pytest.mark.parametrize('stub', STUBS, ids=module_of)
def test_what_a_stub_names_exists(stub):
    module = importlib.import_module(module_of(stub))
    assert list(missing_from(module, ast.parse(stub.read_text()).body)) == []


def test_stubs_name_what_is_public():
    tree = ast.parse((PACKAGE / '__init__.pyi').read_text())
    listed = [ast.literal_eval(node.value) for node in tree.body
              if isinstance(node, ast.Assign) and node.targets[0].id == '__all__']
    assert listed == [uringloop.__all__]


def test_extension_modules_that_python_code_imports_have_stubs():
    stubs = {module_of(path) for path in STUBS}
    extensions = {module_of(path) for path in EXTENSIONS}
    imported = {name for path in [*STUBS, *PACKAGE.rglob('*.py')]
                for name in re.findall(r'^from (uringloop[.\w]*) import', path.read_text(),
                                       re.MULTILINE)}
    assert imported & extensions
    assert imported & extensions == stubs & extensions


# Of a class: what its stub names, and of which classes it inherits there.
STUBBED = {node.name: ({name for name, _ in named_in(node.body)},
                       [base.id for base in node.bases if isinstance(base, ast.Name)])
           for stub in STUBS for node in ast.parse(stub.read_text()).body
           if isinstance(node, ast.ClassDef)}


def stubbed_names(cls):
    """What the stub of ``cls`` names, with what it inherits from others of this package."""
    names, bases = STUBBED.get(cls, (set(), []))
    return names.union(*map(stubbed_names, bases))


@pytest.mark.parametrize('stub', STUBS, ids=module_of)
def test_a_stub_names_what_is_public_in_its_classes(stub):
    """Which stubtest does not look for: to it a stub may lack anything."""
    module = importlib.import_module(module_of(stub))
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.ClassDef):
            cls = getattr(module, node.name)
            # What is ours in one class may be spread over several layers that have no stubs.
            public = {name for layer in cls.__mro__ if layer.__module__.startswith('uringloop')
                      for name in vars(layer) if not name.startswith('_')}
            assert public - stubbed_names(node.name) == set(), node.name


def imported_names(path):
    """The pairs (module, name) of all that the file imports by ``from ... import``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.module, alias.name


def test_stubs_name_what_python_code_imports():
    named = {(module_of(stub), name) for stub in STUBS
             for name, _ in named_in(ast.parse(stub.read_text()).body)}
    named |= {('uringloop', name) for name in uringloop.__all__}
    stubbed = {module_of(stub) for stub in STUBS}
    python_code = [path for folder in ('uringloop', 'tests', 'examples', 'benchmarks')
                   for path in (ROOT / folder).rglob('*.py')]
    wanted = {(module, name) for path in python_code for module, name in imported_names(path)
              if module in stubbed and not name.startswith('_')}
    submodules = {tuple(module.rsplit('.', 1)) for module in MODULES if '.' in module}
    assert wanted - named - submodules == set()


def test_stub_has_the_docstring_of_its_module():
    for stub in STUBS:
        module = importlib.import_module(module_of(stub))
        first = ast.get_docstring(ast.parse(stub.read_text())).splitlines()[0]
        assert first == module.__doc__.splitlines()[0], stub


def test_typing_marker_is_there():
    assert (PACKAGE / 'py.typed').is_file()


# -- layers ------------------------------------------------------------------------------------

# From below to above; what stands in one line knows nothing of each other.
LAYERS = [
    {'uringloop._cpython', 'uringloop._importable', 'uringloop._inherited',
     'uringloop.tls'},
    {'uringloop.ring'},
    {'uringloop.core'},
    {'uringloop.memory'},
    {'uringloop.transport', 'uringloop.sockets', 'uringloop.pipe'},
    {'uringloop.datagram', 'uringloop.stream'},
    {'uringloop.options', 'uringloop.stats'},
    {'uringloop.loop'},
    {'uringloop.copying'},
    {'uringloop.policy'},
    {'uringloop'},
    {'uringloop.cli', 'uringloop.trio'},
    {'uringloop.__main__'},
]


def unit_of(module):
    """The package or top-level module that ``module`` belongs to."""
    return '.'.join(module.split('.')[:2])


def imports_of(module, suffixes=('.py', '.pyx', '.pxd')):
    """The modules of this package that ``module`` imports, in its files with those suffixes."""
    path = ROOT / module.replace('.', '/')
    files = [file for file in (path.with_suffix(suffix) for suffix in suffixes) if file.exists()]
    if path.is_dir():
        files = [path / '__init__.py']
    found = set()
    for file in files:
        text = file.read_text()
        for name, names in re.findall(
                r'^\s*from (uringloop[.\w]*) c?import (.*)$', text, re.MULTILINE):
            inner = {f'{name}.{word}' for word in re.findall(r'\w+', names)}
            found |= inner & MODULES or {name}
        found |= set(re.findall(r'^import (uringloop[.\w]*)$', text, re.MULTILINE))
    return found - {module}


MODULES = {module_of(path) for suffix in ('*.py', '*.pyx', '*.pxd')
           for path in PACKAGE.rglob(suffix)}


@pytest.mark.parametrize('module', sorted(MODULES))
def test_imports_go_down(module):
    rank = {unit: number for number, layer in enumerate(LAYERS) for unit in layer}
    for imported in imports_of(module):
        mine, other = unit_of(module), unit_of(imported)
        assert (mine == other and mine != 'uringloop') or rank[other] < rank[mine], imported


@pytest.mark.parametrize('unit', sorted({unit_of(module) for module in MODULES}))
def test_faces_within_a_package_form_no_circle(unit):
    """A ``.pxd`` knows none that knows it.

    What is inside a part, a sender say, may know the face of the transport that it is a part of.
    """
    left = {module: {other for other in imports_of(module, ('.py', '.pxd'))
                     if unit_of(other) == unit}
            for module in MODULES if unit_of(module) == unit}
    while left:
        ready = {module for module, imported in left.items() if not imported & set(left)}
        assert ready, f'they import each other: {left}'
        left = {module: imported for module, imported in left.items() if module not in ready}


def test_each_package_says_what_it_may_import():
    for path in PACKAGE.rglob('__init__.py'):
        if path.parent != PACKAGE:
            assert 'Imports' in ast.get_docstring(ast.parse(path.read_text())), path


# -- building ----------------------------------------------------------------------------------

@pytest.mark.parametrize(('environment', 'missing'), [
    ({'PKG_CONFIG': '/bin/false'}, 'liburing 2.3 or newer'),
    ({'PKG_CONFIG': '/nowhere/pkg-config'}, 'pkg-config'),
    ({'CC': '/nowhere/cc -pthread'}, 'the compiler /nowhere/cc'),
])
def test_build_says_what_to_install(tmp_path, environment, missing):
    pytest.importorskip('Cython')
    shutil.copy(ROOT / 'setup.py', tmp_path)
    (tmp_path / 'uringloop').mkdir()
    done = python('setup.py', '--quiet', 'build_ext', cwd=tmp_path, **environment)
    assert done.returncode == 1
    line, = done.stderr.splitlines()
    assert line.startswith(f'uringloop: {missing} is not installed.')
    for package in ('apt install gcc python3-dev liburing-dev pkg-config',
                    'dnf install gcc python3-devel liburing-devel', 'pacman -S gcc liburing'):
        assert package in line


def test_static_build_without_the_archive_says_so(tmp_path):
    pytest.importorskip('Cython')
    shutil.copy(ROOT / 'setup.py', tmp_path)
    (tmp_path / 'uringloop').mkdir()
    pkg_config = tmp_path / 'pkg-config'
    pkg_config.write_text('#!/bin/sh\n[ "$1" = --libs ] && echo -luring; '
                          f'[ "$1" != --variable=libdir ] || echo {tmp_path}\n')
    pkg_config.chmod(0o755)
    build = ('setup.py', '--quiet', 'build_ext')
    done = python(*build, cwd=tmp_path, PKG_CONFIG=str(pkg_config), URINGLOOP_STATIC='1')
    assert done.returncode == 1
    line, = done.stderr.splitlines()
    assert line.startswith(
        f'uringloop: URINGLOOP_STATIC is set, and there is no liburing.a in {tmp_path}. ')
    done = python(*build, cwd=tmp_path, PKG_CONFIG=str(pkg_config), URINGLOOP_STATIC='no')
    assert done.stderr == 'uringloop: URINGLOOP_STATIC=no is neither 0 nor 1\n'


def test_import_takes_no_more_of_the_library_than_asyncio_does():
    # Each of these costs a twentieth of what importing asyncio does.
    done = python('-c', 'import sys, asyncio; before = set(sys.modules); import uringloop; '
                        'print(*{"dataclasses", "platform"} & set(sys.modules) - before)',
                  cwd=ROOT)
    assert done.stdout.split() == []


def test_make_help_names_each_target():
    lines = (ROOT / 'Makefile').read_text()
    targets = set(re.search(r'^\.PHONY: (.*)$', lines, re.MULTILINE)[1].split())
    told = set(re.findall(r"^\t@echo 'make ([a-z-]+) ", lines, re.MULTILINE))
    assert targets - told == {'help', 'tests', 'wheel'}
    assert told < targets


# -- documents ---------------------------------------------------------------------------------

PYTHON_DOCUMENTS = ['README.md', 'docs/datagrams.md', 'docs/trio.md', 'docs/zerocopy.md']


def examples(document, language):
    return re.findall(rf'^```{language}\n(.*?)^```$', (ROOT / document).read_text(),
                      re.MULTILINE | re.DOTALL)


def test_examples_of_documents_are_typed(tmp_path):
    """As strict as a type checker can be: what they say of types is enough."""
    pytest.importorskip('mypy')
    for document in PYTHON_DOCUMENTS:
        for number, block in enumerate(examples(document, 'python')):
            (tmp_path / f'{(ROOT / document).stem}{number}.py').write_text(block)
    cache = ROOT / '.mypy_cache'            # that of `make lint`: it has most of it
    done = python('-m', 'mypy', '--strict', '--config-file=', '--cache-dir', cache,
                  *sorted(tmp_path.glob('*.py')), cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


TYPED = '''
import asyncio
import socket
import uringloop

async def main(transport: uringloop.DatagramTransport, sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, uringloop.Loop)
    async with loop.register_buffer(bytearray(1000)) as registered:
        await transport.sendto_zerocopy(registered, segment_size=100)
        await transport.sendto_many_zerocopy([registered, (registered, ('127.0.0.1', 9)), b'1'])
        await loop.sock_sendto_zerocopy(sock, registered, ('127.0.0.1', 9), segment_size=100)
'''


def test_zerocopy_calls_are_typed_to_take_registered_memory(tmp_path):
    pytest.importorskip('mypy')
    (tmp_path / 'typed.py').write_text(TYPED)
    done = python('-m', 'mypy', '--strict', '--config-file=', '--cache-dir', ROOT / '.mypy_cache',
                  tmp_path / 'typed.py', cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


MISSPELT = '''
import asyncio
import uringloop
import uringloop.trio

async def main(loop: uringloop.Loop) -> None:
    await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=None, ecm=True)
    await uringloop.trio.open_datagram_endpoint(sock=None, recieve_limit=1)
'''


def test_misspelt_options_are_seen_by_type_checkers(tmp_path):
    pytest.importorskip('mypy')
    pytest.importorskip('trio')
    (tmp_path / 'misspelt.py').write_text(MISSPELT)
    done = python('-m', 'mypy', '--strict', '--config-file=', '--cache-dir', ROOT / '.mypy_cache',
                  tmp_path / 'misspelt.py', cwd=ROOT)
    assert re.findall(r'misspelt.py:(\d+): error: .*(ecm|recieve_limit)', done.stdout) \
        == [('7', 'ecm'), ('8', 'recieve_limit')], done.stdout


@pytest.mark.parametrize('document', [
    pytest.param('README.md', marks=needs_feature('report_usage', where='send_zc')),
    'docs/datagrams.md',
    pytest.param('docs/trio.md', marks=needs_feature('report_usage', where='send_zc')),
    pytest.param('docs/zerocopy.md', marks=needs_feature('send_zc', 'report_usage'))])
def test_examples_of_documents_print_what_they_say(document, tmp_path):
    blocks = examples(document, 'python')
    assert blocks
    for block in blocks:
        done = python('-W', 'error', '-c', block, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, '')
        shown = re.findall(r'# prints: (.*)', block)
        assert done.stdout.splitlines() == shown


@pytest.mark.parametrize('document', PYTHON_DOCUMENTS)
def test_examples_of_documents_run_where_io_uring_cannot_be_had(document, tmp_path):
    """What they print may differ: there all is copied."""
    for block in examples(document, 'python'):
        done = python('-W', 'error', '-c', block, cwd=tmp_path, URINGLOOP_DISABLE='1')
        assert (done.returncode, done.stderr) == (0, '')


# Of the README's table: the row of docs/benchmarks.md, the sender, the others' sendto(bytes).
MEASURED = [('zc-64', 'sendto(bytes)', 'zc-64'), ('zc-64', 'sendto(lease)', 'zc-64'),
            ('packets', 'sendto(bytes)', 'packets'), ('slices', 'sendto(slice)', 'packets'),
            ('trains', 'sendto_zerocopy, registered', 'packets')]


def test_the_readme_has_the_ratios_of_the_benchmarks():
    rates = {}
    for line in (ROOT / 'docs/benchmarks.md').read_text().splitlines():
        if heading := re.match(r'\*\*`(.+)`\*\*', line):
            row = heading[1]
        elif measured := re.match(r'\| (\w+) \| (.+?) \| [\d,]+ \| ([\d,]+) \|', line):
            rates[row, measured[1], measured[2]] = int(measured[3].replace(',', ''))
    [table] = re.findall(r'^\| \| uvloop \| rloop \|\n.*\n((?:\|.*\n)*)',
                         (ROOT / 'README.md').read_text(), re.MULTILINE)
    for line, (row, sender, others) in zip(table.splitlines(), MEASURED, strict=True):
        for told, loop in zip(line.strip('| ').split(' | ')[1:], ('uvloop', 'rloop'), strict=True):
            ratio = rates[row, 'uringloop', sender] / rates[others, loop, 'sendto(bytes)']
            places = len(told.partition('.')[2])
            assert f'{ratio:.{places}f}' == told, line


def test_one_table_has_all_counters():
    rows = re.findall(r'^\| `(\w+)` \| \w', (ROOT / 'docs/stats.md').read_text(), re.MULTILINE)
    assert tuple(rows) == uringloop.LoopStats._fields


def test_help_says_what_each_counter_is():
    for name in uringloop.LoopStats._fields:
        assert not getattr(uringloop.LoopStats, name).__doc__.startswith('Alias for'), name


def test_documents_name_what_exists():
    """`loop.stats().name`s of the documents are fields of LoopStats."""
    fields = set(uringloop.LoopStats._fields)
    for document in (ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')):
        for name in re.findall(r'stats\(\)\.(\w+)', document.read_text()):
            assert name in fields, f'{document.name}: {name}'


@pytest.mark.parametrize('document', [
    'README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md', 'docs/datagrams.md',
    'docs/deploy.md', 'docs/design.md', 'docs/differences.md', 'docs/doctor.md',
    'docs/fallback.md', 'docs/reliability.md', 'docs/run.md', 'docs/stats.md', 'docs/trio.md',
    'docs/zerocopy.md'])
def test_links_between_documents_lead_somewhere(document):
    path = ROOT / document
    for target in re.findall(r'\]\((?!https?:)([^)#]+)', path.read_text()):
        assert (path.parent / target).exists(), target


def test_promises_name_the_tests_that_keep_them():
    promises, _, _ = (ROOT / 'docs/reliability.md').read_text().partition('\n## How faults')
    rows = [line for line in promises.splitlines()
            if line.startswith('| ') and not line.startswith('| promise')]
    assert len(rows) > 15
    for row in rows:
        kept_by = re.findall(r'`(tests/[a-z_/]+\.py)`', row)
        assert kept_by, row
        for path in kept_by:
            assert (ROOT / path).is_file(), path


# -- subinterpreters ---------------------------------------------------------------------------

@pytest.mark.parametrize('before', ['', 'import uringloop'])
def test_subinterpreters_are_refused(before):
    """Whether or not the main interpreter has it already."""
    inner = f'''
        import sys
        sys.path[:] = {sys.path!r}
        try:
            import uringloop
        except ImportError as error:
            print(error)
        '''
    code = f'''
        {before}
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        interpreters.run_string(interpreters.create(), {textwrap.dedent(inner)!r})
        '''
    assert script(code) == ('uringloop cannot be used in a subinterpreter: '
                           'import and run it in the main interpreter\n')


# -- sources -----------------------------------------------------------------------------------

def test_sources_that_are_not_compiled_say_what_to_do(tmp_path):
    """As in a clone, whose folder comes before what pip has installed."""
    (tmp_path / 'uringloop').mkdir()
    for name in '__init__.py', '_importable.py':
        (tmp_path / 'uringloop' / name).write_bytes((PACKAGE / name).read_bytes())
    done = python('-c', 'import uringloop', cwd=tmp_path, PYTHONPATH=str(tmp_path))
    version = '.'.join(map(str, sys.version_info[:2]))
    assert done.stderr.splitlines()[-1] == (
        f'ImportError: uringloop: the sources of {tmp_path}/uringloop/_importable.py are not '
        f'compiled for Python {version}: start Python in another folder to have what pip has '
        f'installed, or run "make build PYTHON=python{version}" here')


# -- python -bb --------------------------------------------------------------------------------

@pytest.mark.parametrize('host', ["'localhost'", "b'localhost'", "''", "b'127.0.0.1'"])
def test_host_names_are_not_compared_with_bytes(host):
    """Text and bytes are never compared, which ``-bb`` makes an error."""
    done = python('-bb', '-c', textwrap.dedent(f'''
        import asyncio, socket, uringloop

        async def main():
            loop = asyncio.get_running_loop()
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)
            address = ({host}, 9)
            assert await loop.sock_sendto(sock, b'x', address) == 1
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, sock=sock)
            transport.sendto(b'x', address)
            transport.close()
            await asyncio.sleep(0)

        uringloop.run(main())
    '''))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ''


# -- without the GIL ---------------------------------------------------------------------------

SOURCES = sorted(PACKAGE.rglob('*.c'))


@pytest.mark.skipif(sys.version_info < (3, 14) or not SOURCES or not shutil.which('gcc'),
                    reason='needs headers of Python 3.14, and what Cython has written')
def test_compiles_for_a_python_without_the_gil():
    include = sysconfig.get_path('include')
    if not os.path.exists(f'{include}/Python.h'):
        pytest.skip('there are no headers of this Python')
    done = subprocess.run(
        ['gcc', '-fsyntax-only', '-Wall', '-Werror', '-Wno-cast-function-type',
         '-DPy_GIL_DISABLED=1', f'-I{include}', *map(str, SOURCES)],
        check=False, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('source', SOURCES, ids=module_of)
def test_is_not_declared_free_of_the_gil(source):
    # With the GIL threads take turns; much of what is here counts on that.
    assert '#define CYTHON_FREETHREADING_COMPATIBLE 1' not in source.read_text()


# -- errors ------------------------------------------------------------------------------------

def test_a_module_that_was_not_imported_is_told():
    done = python('-c', 'import uringloop; uringloop.trio')
    assert done.stderr.endswith("has no attribute 'trio' yet: import uringloop.trio first\n")
