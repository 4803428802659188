"""The words that say nothing of a text's subject, by language; English is scikit-learn's list."""

from __future__ import annotations

from cmprompt.errors import UsageError, unknown

_LISTS = {
    "de": "aber als am an auch auf aus bei bin bis da das dass dem den der des die dies diese dieser du ein eine einem"
    " einen einer eines er es für haben hat hatte ich ihr im in ist ja kann man mit nach nicht noch nur oder sehr sein"
    " seine sich sie sind so über um und uns unter vom von vor war waren wenn wer wie wir wird zu zum zur",
    "es": "a al algo ante como con cuando de del desde donde e el ella ellos en entre era es esa ese eso esta este esto"
    " fue ha hasta hay la las le les lo los más me mi muy ni no nos o para pero por porque que se ser si sin sobre son"
    " su sus también tan te tiene tu un una uno unos y ya yo",
    "fr": "à au aux avec ce ces cette comme d dans de des du elle elles en est et être eu il ils j je l la le les leur"
    " lui m ma mais me même mes mon n ne nos notre nous on ou où par pas plus pour qu que qui s sa sans se ses si son"
    " sont sur t ta te tes ton très tu un une vos votre vous y",
    "it": "a ai al alla alle anche c che chi ci come con cui da dal dalla dei del della delle di e è ed era essere gli"
    " ha hanno ho i il in io l la le lei lo loro lui ma mi molto ne nei nel nella no noi non o per più però quando"
    " questa questo se si sono su sua sul sulla suo tra un una uno voi",
    "nl": "aan al als bij dat de den der deze die dit door een en er ge haar had heb heeft het hij hun ik in is je kan"
    " maar me met mijn naar niet nog nu of om ook op over te tot u uit van veel voor was wat we wel wij wordt zal ze"
    " zich zijn zij zo",
    "pt": "a ao aos as até com como da das de dela dele do dos e é ela ele eles em entre era essa esse esta este eu foi"
    " há isso isto já la lhe mais mas me mesmo meu minha muito na não nas nem no nos o os ou para pela pelo por quando"
    " que quem se sem ser seu só sua são também te tem um uma você",
}
LANGUAGES = ("en", *sorted(_LISTS))


def stop_words(language: str) -> frozenset[str]:
    """In lower case. Raises UsageError that lists the languages."""
    if language == "en":
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        return frozenset(ENGLISH_STOP_WORDS)
    if language not in _LISTS:
        raise UsageError(unknown("language of --stop-words", language, LANGUAGES))
    return frozenset(_LISTS[language].split())
