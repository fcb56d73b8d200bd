"""Small questions of our own, with answers in every language: true ones, and cheats."""

from codegemma.evals.babelcode.questions import Parameter, Question, make_question
from codegemma.evals.babelcode.record import Call, Source
from codegemma.evals.babelcode.types import parse_type

DOUBLE = Question(
    "own/double",
    "double_it",
    "Return twice the number.\n>>> double_it(2)\n4",
    (Parameter("x", parse_type("integer")),),
    parse_type("integer"),
    (Call((2,), 4), Call((-3,), -6)),
    "def double_it(x):\n    return 2 * x\n",
)
SPLIT = make_question(
    Source(
        "own/split", "def split(text: str) -> list:\n    return text.split()\n", "", "split", "Split a text: 'a b'."
    ),
    [Call(("a b",), ["a", "b"]), Call(("",), []), Call(('é\n$x"\\',), ["é", '$x"\\'])],
)

TRUE_ANSWERS = {
    "cpp": "    return 2 * x;\n}",
    "csharp": "        return 2 * x;\n    }",
    "go": "\treturn 2 * x\n}",
    "java": "        return 2 * x;\n    }",
    "javascript": "    return 2 * x;\n}",
    "kotlin": "    return 2 * x\n}",
    "python": "    return 2 * x\n",
    "rust": "    2 * x\n}",
}
WRONG_ANSWERS = {key: answer.replace("2 *", "3 *") for key, answer in TRUE_ANSWERS.items()}

# Each prints what a harness that reads verdicts from the output takes for success, and ends with code 0.
EARLY_EXITS = {
    "cpp": '    puts("TEST-0...PASSED\\nTEST-1...PASSED"); fflush(stdout); _Exit(0);\n}',
    "csharp": '        Console.WriteLine("TEST-0...PASSED\\nTEST-1...PASSED"); Environment.Exit(0); return 0;\n    }',
    "go": '\tfmt.Println("TEST-0...PASSED\\nTEST-1...PASSED")\n\tos.Exit(0)\n\treturn 0\n}',
    "java": '        System.out.println("TEST-0...PASSED\\nTEST-1...PASSED"); Runtime.getRuntime().halt(0); return 0;\n    }',
    "javascript": '    console.log("TEST-0...PASSED\\nTEST-1...PASSED"); process.exit(0);\n}',
    "kotlin": '    println("TEST-0...PASSED\\nTEST-1...PASSED"); Runtime.getRuntime().halt(0); return 0\n}',
    "python": '    import os\n    print("TEST-0...PASSED\\nTEST-1...PASSED", flush=True)\n    os._exit(0)\n',
    "rust": '    println!("TEST-0...PASSED\\nTEST-1...PASSED"); std::process::exit(0);\n}',
}
# Each tells the values of all calls itself, with the word of the run, and guesses what they should be.
TELLING = {
    "cpp": "    tell::value(0, x); tell::value(1, x); _Exit(0);\n}",
    "csharp": "        Tell.Value(0, x); Tell.Value(1, x); Environment.Exit(0); return 0;\n    }",
    "go": "\ttellValue(0, x)\n\ttellValue(1, x)\n\tos.Exit(0)\n\treturn 0\n}",
    "java": "        Tell.value(0, x); Tell.value(1, x); Runtime.getRuntime().halt(0); return 0;\n    }",
    "javascript": "    tell.value(0, x); tell.value(1, x); process.exit(0);\n}",
    "kotlin": "    tell.value(0, x); tell.value(1, x); Runtime.getRuntime().halt(0); return 0\n}",
    "python": "    tell.value(0, x); tell.value(1, x)\n    sys.exit(0)\n",
    "rust": "    tell::value(0, &x); tell::value(1, &x); std::process::exit(0);\n}",
}
# Each tells a true value twice: the second time it would be another test's.
TELLING_TWICE = {key: answer.replace("1, ", "0, ") for key, answer in TELLING.items()}
ENDLESS = {
    "cpp": "    for (;;) x++;\n}",
    "csharp": "        for (;;) x++;\n    }",
    "go": "\tfor {\n\t\tx++\n\t}\n}",
    "java": "        for (;;) x++;\n    }",
    "javascript": "    for (;;) x++;\n}",
    "kotlin": "    while (true) {}\n}",
    "python": "    while True: x += 1\n",
    "rust": "    loop {}\n}",
}
CHEATS = {"early exit": EARLY_EXITS, "telling": TELLING, "telling twice": TELLING_TWICE}
