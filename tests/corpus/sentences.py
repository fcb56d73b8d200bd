"""Sentences whose language is known, for choosing and testing what tells English from other languages.

**In**: nothing.
**Out**: `ENGLISH`, and `OTHERS` by ISO 639-1 code.
**Not**: a corpus. Article 1 of the Universal Declaration of Human Rights, openings of books whose authors died more
than seventy years ago, and sentences of our own, such as stand in manuals, problems and mathematics.
"""

ENGLISH = (
    "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience and "
    "should act towards one another in a spirit of brotherhood.",
    "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse, "
    "I thought I would sail about a little and see the watery part of the world.",
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a "
    "wife.",
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness.",
    "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do.",
    "Four score and seven years ago our fathers brought forth on this continent, a new nation, conceived in Liberty, "
    "and dedicated to the proposition that all men are created equal.",
    "We the People of the United States, in Order to form a more perfect Union, establish Justice, insure domestic "
    "Tranquility, provide for the common defence.",
    "To be, or not to be, that is the question: Whether 'tis nobler in the mind to suffer the slings and arrows.",
    "To Sherlock Holmes she is always the woman. I have seldom heard him mention her under any other name.",
    "Let it be granted that a straight line may be drawn from any one point to any other point.",
    "In any triangle, the angle opposite to the greater side is greater than the angle opposite to the lesser.",
    "Anna has 12 apples and gives a third of them to her brother. How many apples does she have left?",
    "A train leaves at 9:15 and travels 240 miles at 60 miles per hour. When does it arrive?",
    "Find the sum of all positive integers n such that n squared is less than 200.",
    "Suppose that f is continuous on the closed interval. Then f attains its maximum, and the maximum is unique.",
    "Therefore the answer is 42, since each of the six boxes holds seven pencils.",
    "Run the installer, open a terminal and type the command below. The server listens on port 8080 by default.",
    "This function returns the index of the first element that is greater than the given value, or -1 if none is.",
    "Write a Python function that takes a list of strings and returns those that are palindromes.",
    "If the connection is lost, the client waits for two seconds and tries again, up to five times.",
    "The weather was fine, so we walked along the river until it got dark.",
    "Please read the license before you copy or share any part of this document.",
    "Proof. Assume the contrary. Then there is a prime that divides both numbers, which is absurd.",
    "The ratio of the areas equals the square of the ratio of the sides.",
    "Fish, chips and mushy peas cost 7 pounds; a cup of tea is 2 pounds more.",
    "He said nothing.",
    "Deprecated since version 3.2: use the new interface instead.",
    "Sales rose by 4 percent in the third quarter, mostly because of new customers in the north.",
    "Compute the probability that at least two of the five cards have the same suit.",
    "Tom Sawyer appeared on the sidewalk with a bucket of whitewash and a long-handled brush.",
)

OTHERS = {
    "af": ("Alle menslike wesens word vry, met gelyke waardigheid en regte, gebore. Hulle het rede en gewete.",),
    "ar": ("يولد جميع الناس أحراراً متساوين في الكرامة والحقوق. وقد وهبوا عقلاً وضميراً.",),
    "bg": ("Всички хора се раждат свободни и равни по достойнство и права. Те са надарени с разум и съвест.",),
    "ca": (
        "Tots els éssers humans neixen lliures i iguals en dignitat i en drets. Són dotats de raó i de consciència.",
    ),
    "cs": (
        "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv.",
        "Zadejte heslo a stiskněte klávesu.",
    ),
    "da": (
        "Alle mennesker er født frie og lige i værdighed og rettigheder. De er udstyret med fornuft og samvittighed.",
        "Hvor mange æbler har Anna tilbage, når hun giver en tredjedel væk?",
    ),
    "de": (
        "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt.",
        "Als Gregor Samsa eines Morgens aus unruhigen Träumen erwachte, fand er sich in seinem Bett verwandelt.",
        "Wie viele Äpfel hat Anna noch, wenn sie ihrem Bruder ein Drittel der 12 Äpfel gibt?",
        "Diese Funktion gibt den Index des ersten Elements zurück, das größer als der angegebene Wert ist.",
        "Der Server wartet auf Port 8080.",
    ),
    "el": ("Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",),
    "es": (
        "Todos los seres humanos nacen libres e iguales en dignidad y derechos, dotados de razón y conciencia.",
        "En un lugar de la Mancha, de cuyo nombre no quiero acordarme, no ha mucho tiempo que vivía un hidalgo.",
        "Calcula la suma de todos los números enteros positivos menores que 200.",
        "Esta función devuelve el primer elemento de la lista, o nada si está vacía.",
    ),
    "et": ("Kõik inimesed sünnivad vabadena ja võrdsetena oma väärikuselt ja õigustelt.",),
    "fa": ("تمام افراد بشر آزاد به دنیا می‌آیند و از لحاظ حیثیت و حقوق با هم برابرند.",),
    "fi": (
        "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan.",
        "Mieleni minun tekevi, aivoni ajattelevi lähteäni laulamahan, saa'ani sanelemahan.",
    ),
    "fr": (
        "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison.",
        "Nous étions à l'étude, quand le Proviseur entra, suivi d'un nouveau habillé en bourgeois.",
        "Soit f une fonction continue sur un intervalle fermé. Alors f atteint son maximum.",
        "Cette fonction renvoie la liste des fichiers du dossier, sans les fichiers cachés.",
    ),
    "he": ("כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. כולם חוננו בתבונה ובמצפון.",),
    "hi": ("सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",),
    "hu": ("Minden emberi lény szabadon születik és egyenlő méltósága és joga van. Az emberek ésszel bírnak.",),
    "id": (
        "Semua orang dilahirkan merdeka dan mempunyai martabat dan hak-hak yang sama. Mereka dikaruniai akal.",
        "Berapa banyak apel yang tersisa jika Ani memberikan sepertiganya?",
    ),
    "is": ("Hver maður er borinn frjáls og jafn öðrum að virðingu og réttindum.",),
    "it": (
        "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati di ragione.",
        "Quel ramo del lago di Como, che volge a mezzogiorno, tra due catene non interrotte di monti.",
        "Nel mezzo del cammin di nostra vita mi ritrovai per una selva oscura.",
    ),
    "ja": (
        "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
        "サーバーを起動してください。",
    ),
    "ko": ("모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",),
    "la": ("Gallia est omnis divisa in partes tres, quarum unam incolunt Belgae, aliam Aquitani.",),
    "lt": ("Visi žmonės gimsta laisvi ir lygūs savo orumu ir teisėmis.",),
    "lv": ("Visi cilvēki piedzimst brīvi un vienlīdzīgi savā pašcieņā un tiesībās.",),
    "nl": (
        "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn begiftigd met verstand.",
        "Hoeveel appels heeft Anna nog over als zij een derde van haar twaalf appels weggeeft?",
        "Deze functie geeft de index van het eerste element terug.",
    ),
    "no": (
        "Alle mennesker er født frie og med samme menneskeverd og menneskerettigheter.",
        "Det var i den tid jeg gikk omkring og sultet i Kristiania, denne forunderlige by.",
    ),
    "pl": (
        "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.",
        "Litwo! Ojczyzno moja! ty jesteś jak zdrowie; ile cię trzeba cenić, ten tylko się dowie, kto cię stracił.",
    ),
    "pt": (
        "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Dotados de razão e de consciência.",
        "Esta função devolve o primeiro elemento da lista que é maior do que o valor dado.",
        "Quantas maçãs restam à Ana?",
    ),
    "ro": ("Toate ființele umane se nasc libere și egale în demnitate și în drepturi.",),
    "ru": (
        "Все люди рождаются свободными и равными в своем достоинстве и правах.",
        "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему.",
    ),
    "sk": ("Všetci ľudia sa rodia slobodní a sebe rovní, čo sa týka ich dôstojnosti a práv.",),
    "sl": ("Vsi ljudje se rodijo svobodni in imajo enako dostojanstvo in enake pravice.",),
    "sv": (
        "Alla människor är födda fria och lika i värde och rättigheter. De är utrustade med förnuft och samvete.",
        "Den här funktionen returnerar antalet rader i filen.",
    ),
    "sw": ("Watu wote wamezaliwa huru, hadhi na haki zao ni sawa. Wote wamejaliwa akili na dhamiri.",),
    "th": ("มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",),
    "tl": ("Ang lahat ng tao'y isinilang na malaya at pantay-pantay sa karangalan at mga karapatan.",),
    "tr": ("Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler.",),
    "uk": ("Всі люди народжуються вільними і рівними у своїй гідності та правах.",),
    "vi": ("Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.",),
    "zh": (
        "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
        "请先阅读许可证。",
    ),
}
