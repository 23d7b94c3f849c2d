"""Lines of the log as a person at a terminal gets them."""

from loguru import logger

from limiter.logs.lines import text_line


def said(text: str, **extra: object) -> str:
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(text_line(message)), level="INFO")
    try:
        logger.bind(**extra).info("{}", text)
    finally:
        logger.remove(sink)
    (line,) = lines
    return line


def test_a_line_has_its_time_level_text_and_ids() -> None:
    assert said("done", model="a").endswith(" INFO    done {'model': 'a'}\n")
    assert said("done").endswith(" INFO    done\n")


def test_what_a_name_brings_along_neither_moves_the_cursor_nor_forges_a_line() -> None:
    line = said("m\x1b[2J\r\n12:00:00.000 ERROR  forged\u2028", model="x\x1b[2J\n")
    assert line.count("\n") == 1
    assert "\x1b" not in line
    assert "m\\x1b[2J\\r\\n12:00:00.000 ERROR  forged\\u2028" in line


def test_words_of_every_language_stay_as_they_are() -> None:
    assert "модель 模型 → 2" in said("модель 模型 → 2")
