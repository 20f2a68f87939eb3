"""The statements that speakers read aloud to consent, in the languages of the model.

The digits at the end differ for each consent, so that the recording of one is not accepted for another.
"""

import secrets
from datetime import datetime

from pipeline.errors import InvalidInput

CODE_DIGITS = 6

# person, operator, purposes, date, code
_STATEMENTS = {
    "Chinese": "我是{person}，我同意{operator}根据我的录音制作我的声音的人工副本。该副本可用于：{purposes}。"
    "我于{date}作出此同意。我的验证码是：{code}。",
    "English": "I, {person}, agree that {operator} makes an artificial copy of my voice from my recording. "
    "The copy may be used for {purposes}. I give this consent on {date}. My code is {code}.",
    "French": "Moi, {person}, j'accepte que {operator} réalise une copie artificielle de ma voix à partir de mon "
    "enregistrement. La copie peut être utilisée pour {purposes}. Je donne ce consentement le {date}. "
    "Mon code est {code}.",
    "German": "Ich, {person}, bin einverstanden, dass {operator} aus meiner Aufnahme eine künstliche Kopie meiner "
    "Stimme erstellt. Die Kopie darf verwendet werden für {purposes}. Ich gebe diese Einwilligung am {date}. "
    "Mein Code ist {code}.",
    "Italian": "Io, {person}, accetto che {operator} realizzi una copia artificiale della mia voce dalla mia "
    "registrazione. La copia può essere usata per {purposes}. Do questo consenso il {date}. "
    "Il mio codice è {code}.",
    "Japanese": "私、{person}は、{operator}が私の録音から私の声の人工的なコピーを作成することに同意します。"
    "コピーの用途は、{purposes}です。同意の日付は{date}です。私のコードは{code}です。",
    "Korean": "저 {person}은(는) {operator}이(가) 제 녹음으로 제 목소리의 인공 사본을 만드는 데 동의합니다. "
    "사본의 용도는 {purposes}입니다. 동의 날짜는 {date}입니다. 제 코드는 {code}입니다.",
    "Portuguese": "Eu, {person}, concordo que {operator} faça uma cópia artificial da minha voz a partir da minha "
    "gravação. A cópia pode ser usada para {purposes}. Dou este consentimento em {date}. "
    "O meu código é {code}.",
    "Russian": "Я, {person}, согласен или согласна с тем, что {operator} создаёт искусственную копию моего голоса "
    "по моей записи. Цели использования копии: {purposes}. Дата моего согласия: {date}. Мой код: {code}.",
    "Spanish": "Yo, {person}, acepto que {operator} haga una copia artificial de mi voz a partir de mi grabación. "
    "La copia se puede usar para {purposes}. Doy este consentimiento el {date}. Mi código es {code}.",
}
_DATES = {
    "Chinese": "{0.year}年{0.month}月{0.day}日",
    "English": "{0:%B} {0.day}, {0.year}",
    "German": "{0.day}.{0.month}.{0.year}",
    "Japanese": "{0.year}年{0.month}月{0.day}日",
    "Korean": "{0.year}년 {0.month}월 {0.day}일",
    "Russian": "{0:%d.%m.%Y}",
}
_OTHER_DATE = "{0.day}/{0.month}/{0.year}"


def new_code() -> str:
    """Return random digits."""
    return f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}d}"


def statement(
    language: str, person: str, operator: str, purposes: tuple[str, ...], moment: datetime, code: str
) -> str:
    """Return the statement in a language, given by its name.

    Raises
    ------
    InvalidInput
        There is no statement in this language.
    """
    if language not in _STATEMENTS:
        raise InvalidInput(f"language should be one of {', '.join(_STATEMENTS)}.", field="language")
    return _STATEMENTS[language].format(
        person=person,
        operator=operator,
        purposes=", ".join(purposes),
        date=_DATES.get(language, _OTHER_DATE).format(moment),
        code=" ".join(code),
    )
