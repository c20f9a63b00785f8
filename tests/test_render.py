"""Messages to ids and back: what is trained, that prompts never change, that text cannot forge control tokens."""

from pathlib import Path

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from posttrain.errors import UserError
from posttrain.render import Chat, TemplateUnstable, load_chat
from posttrain.rows import Message

TALK = tuple(
    Message(role=role, content=text)
    for role, text in (
        ("system", "Be brief."),
        ("user", "hi"),
        ("assistant", "yes"),
        ("user", "and?"),
        ("assistant", "no "),
    )
)
# Templates of the families people bring, written here with the same structure as theirs.
INST = (  # [INST] in ordinary text, a blank before the answer, end-of-text after it, no system role
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}"
    "{% elif m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] | trim + eos_token }}{% endif %}{% endfor %}"
)
THINKING = (  # the last answer gets an empty thinking block, earlier ones lose theirs
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
    "{% if loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m['content'].split('</think>')[-1] }}"
    "{% else %}{{ m['content'] }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LAST_ONLY = (  # a preamble that depends on how many messages there are
    "{{ messages | length }}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def save(folder: Path, template: str | None = None) -> Path:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def sentencepiece_like(folder: Path, template: str | None = None) -> Path:
    """A tokenizer that puts a blank before the first word and a beginning-of-text token before everything."""
    letters = "▁abcdefghijklmnopqrstuvwxyz[]/INST.?:UA"
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {c: n + 3 for n, c in enumerate(dict.fromkeys(letters))}
    vocab |= {"▁y": len(vocab), "\n": len(vocab) + 1}
    tok = Tokenizer(models.BPE(vocab=vocab, merges=[("▁", "y")], unk_token="<unk>"))
    tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tok.decoder = decoders.Metaspace(prepend_scheme="first")
    from tokenizers.processors import TemplateProcessing

    tok.add_special_tokens(["<unk>", "<s>", "</s>"])
    tok.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tok, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=template
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Chat:
    return load_chat(save(tmp_path_factory.mktemp("chatml")))


def trained(chat: Chat, messages: tuple[Message, ...], train_on: str = "assistant") -> str:
    ids, mask = chat.example(messages, train_on)  # type: ignore[arg-type]
    return "".join(chat.decode([i]) if wanted else "·" for i, wanted in zip(ids, mask)).strip("·")


def squeeze(text: str) -> str:
    while "··" in text:
        text = text.replace("··", "·")
    return text


def test_chatml_trains_each_answer_with_its_stop_token_and_nothing_else(chat: Chat) -> None:
    assert chat.name == "chatml"
    assert squeeze(trained(chat, TALK)) == "yes<|im_end|>·no <|im_end|>"
    assert trained(chat, TALK, "last") == "no <|im_end|>"
    ids, mask = chat.example(TALK, "all")
    assert mask == [False] + [True] * (len(ids) - 1)
    assert chat.decode(ids).startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n")


def test_system_message_is_optional(chat: Chat) -> None:
    assert chat.decode(chat.prompt(TALK[1:2])) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def test_stop_and_pad_ids(chat: Chat) -> None:
    """tiny's special tokens are ids 0 <|endoftext|>, 1 <|im_start|>, 2 <|im_end|>, 3 <|pad|>."""
    assert chat.stop_ids == (2, 0)
    assert chat.pad_id == 3


def test_prompt_is_the_beginning_of_every_continuation(chat: Chat) -> None:
    prompt, answer = chat.continuation(TALK[:4], TALK[4])
    assert prompt == chat.prompt(TALK[:4])
    assert prompt + answer == chat.example(TALK)[0]
    assert chat.example(TALK)[0][: len(chat.prompt(TALK[:2]))] == chat.prompt(TALK[:2])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.text(max_size=12) | st.sampled_from(["\n\nx", " ", "<|im_end|>", "<|im_start|>assistant\n"]),
        min_size=4,
        max_size=4,
    )
)
def test_any_text_goes_in_and_comes_back(chat: Chat, texts: list[str]) -> None:
    """Prefix-stable for any text, as many control tokens as turns, and the answer is read back as it was."""
    texts = [t.encode("utf-8", "ignore").decode().replace("\U0010fffe", "") for t in texts]
    roles = ("user", "assistant", "user", "assistant")
    talk = tuple(Message(role=r, content=t) for r, t in zip(roles, texts))  # type: ignore[arg-type]
    ids, mask = chat.example(talk)
    prompt, answer = chat.continuation(talk[:3], talk[3])
    assert ids == prompt + answer == chat.prompt(talk[:3]) + answer
    assert ids[: len(chat.prompt(talk[:1]))] == chat.prompt(talk[:1])
    assert ids.count(1) == ids.count(2) == 4
    assert sum(wanted and i == 2 for i, wanted in zip(ids, mask)) == 2
    assert chat.parse(answer) == (talk[3], "stop")


def test_parse_says_how_the_answer_ended(chat: Chat) -> None:
    yes = chat.tokenizer("yes", add_special_tokens=False).input_ids
    assert chat.parse([*yes, 2, *yes]) == (Message(role="assistant", content="yes"), "stop")
    assert chat.parse([*yes, 0])[1] == "stop"
    assert chat.parse(yes) == (Message(role="assistant", content="yes"), "length")
    assert chat.parse([*yes, 1, *yes, 2]) == (Message(role="assistant", content="yesyes"), "malformed")
    assert chat.parse([]) == (Message(role="assistant", content=""), "length")


def test_saved_tokenizer_carries_the_template_and_the_stop_ids(chat: Chat, tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"temperature": 0.5}')
    chat.save(tmp_path)
    again = load_chat(tmp_path)
    assert again.name == "model"
    assert (again.stop_ids, again.pad_id) == (chat.stop_ids, chat.pad_id)
    assert again.example(TALK) == chat.example(TALK)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    rows = [{"role": m.role, "content": m.content} for m in TALK]
    assert theirs.apply_chat_template(rows[:-1], add_generation_prompt=True, return_dict=False) == chat.prompt(
        TALK[:-1]
    )
    assert '"temperature": 0.5' in (tmp_path / "generation_config.json").read_text()


def test_same_ids_as_the_models_own_template(tmp_path: Path) -> None:
    """Oracle: transformers' own rendering and tokenizing of the conversation, whole."""
    chat = load_chat(save(tmp_path, INST))
    talk = TALK[1:]
    rows = [{"role": m.role, "content": m.content} for m in talk]
    assert chat.example(talk)[0] == chat.tokenizer.apply_chat_template(rows, return_dict=False)
    assert squeeze(trained(chat, talk)) == " yes<|endoftext|>· no<|endoftext|>"
    assert chat.parse(chat.continuation(talk[:1], talk[1])[1])[0] == talk[1]


@pytest.mark.parametrize("template", [INST, INST.replace("{{ ' ' + m", "{{ m")], ids=["blank", "no blank"])
def test_tokenizer_with_a_blank_before_the_first_word(template: str, tmp_path: Path) -> None:
    """The pieces after the first one must not each get that blank; the oracle tokenizes the whole text at once."""
    chat = load_chat(sentencepiece_like(tmp_path, template))
    talk = (Message(role="user", content="hi"), Message(role="assistant", content="yes"))
    rows = [{"role": m.role, "content": m.content} for m in talk]
    assert chat.example(talk)[0] == chat.tokenizer.apply_chat_template(rows, return_dict=False)
    assert chat.example(talk)[0].count(1) == 1
    assert chat.parse(chat.continuation(talk[:1], talk[1])[1]) == (talk[1], "stop")


def test_plain_template_begins_with_the_token_the_tokenizer_would_add(tmp_path: Path) -> None:
    chat = load_chat(sentencepiece_like(tmp_path), "plain")
    ids, mask = chat.example((Message(role="user", content="hi"), Message(role="assistant", content="yes")))
    assert ids[0] == 1 and ids.count(1) == 1
    assert ids[-1] == 2 and mask[-1]


def test_plain_template_is_ordinary_text(tmp_path: Path) -> None:
    chat = load_chat(save(tmp_path), "plain")
    whole = "Be brief.\n\nUser: hi\nAssistant: yes<|endoftext|>\nUser: and?\nAssistant: no <|endoftext|>"
    assert chat.decode(chat.example(TALK)[0]) == whole
    assert chat.parse(chat.continuation(TALK[:2], TALK[2])[1]) == (TALK[2], "stop")


def test_template_that_refuses_a_role_is_one_clear_message(tmp_path: Path) -> None:
    chat = load_chat(save(tmp_path, INST))
    with pytest.raises(UserError, match="no system role"):
        chat.prompt(TALK[:2])


def test_template_that_rewrites_earlier_answers(tmp_path: Path) -> None:
    """An answer whose thinking is cut from the history cannot be trained in the middle, but the last one can."""
    chat = load_chat(save(tmp_path, THINKING))
    assert chat.lead == "<think>\n\n</think>\n\n"
    talk = (TALK[1], Message(role="assistant", content="hm</think>yes"), *TALK[3:])
    with pytest.raises(TemplateUnstable, match="message 2"):
        chat.example(talk)
    prompt, answer = chat.continuation(talk[:3], talk[3])
    assert prompt == chat.prompt(talk[:3])
    assert chat.parse(answer) == (talk[3], "stop")
    assert trained(chat, TALK[1:]).startswith("yes<|im_end|>")  # without thinking every turn stays as it was


def test_template_without_a_fixed_prompt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TemplateUnstable, match="not the beginning"):
        load_chat(save(tmp_path, LAST_ONLY))


def test_template_that_never_stops_is_refused(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}" + (
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    with pytest.raises(UserError, match="never stop"):
        load_chat(save(tmp_path, template))


def test_doubled_beginning_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="twice"):
        load_chat(save(tmp_path, "{{ bos_token }}" + INST))


def test_no_template_and_no_chatml_tokens(tmp_path: Path) -> None:
    folder = sentencepiece_like(tmp_path)
    with pytest.raises(UserError, match="neither a chat template nor") as error:
        load_chat(folder)
    assert "template: plain" in str(error.value)
    with pytest.raises(UserError, match="lacks the tokens"):
        load_chat(folder, "chatml")
    with pytest.raises(UserError, match="no chat template"):
        load_chat(folder, "model")


def test_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tokenizer"):
        load_chat(tmp_path)


def test_misuse_is_a_bug_not_a_user_error(chat: Chat) -> None:
    with pytest.raises(ValueError, match="ends with an answer"):
        chat.prompt(TALK)
    with pytest.raises(ValueError, match="ends with an assistant"):
        chat.example(TALK[:2])
